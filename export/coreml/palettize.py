"""Weights as palettes: few numbers per tensor and a small index per weight, by k-means.

coremltools' own palettization clusters about 20,000 weights per second at 6 bits, which makes
hours of a U-Net; here only the float16 numbers that occur are clustered (`kmeans.py`).
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import OptionError, choices, listing
from .lut import Palettized, put_palette
from .toolbox import Progress, Releases

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program

# Bits that `constexpr_lut_to_dense` takes on every target.
BITS = (8, 6, 4, 2, 1)
# Smaller tensors are not worth a palette: coremltools leaves them out, too.
_SMALLEST = 2048
# What has weights that are worth it. Not `gather`: a table of embeddings is read row by row, and
# Core ML would have to unpack it as a whole. Apple leaves it out, too.
_WEIGHTED = {"conv": "weight", "conv_transpose": "weight", "linear": "weight", "matmul": "y"}
_HALF = "_to_fp16"
_DEFAULT = "default"


@dataclass(frozen=True)
class Palette:
    """How many bits each weight gets.

    Attributes:
        rules: Bits by the name of a weight, or by a pattern of names (`*_attn2_*`), or None to
            leave a weight as it is. A full name counts before a pattern, the first pattern that
            fits before the others.
        default: Bits of the weights that no rule names; None leaves them as they are.
        covered: Whether `default` is meant; without it, every weight needs a rule.
    """

    rules: Mapping[str, int | None] = field(default_factory=dict)
    default: int | None = None
    covered: bool = True

    def __post_init__(self) -> None:
        for bits in (*self.rules.values(), self.default):
            if bits is not None and (isinstance(bits, bool) or bits not in BITS):
                raise OptionError(
                    f"A palette has {choices(map(str, BITS))} bits, not {bits!r}; null leaves "
                    "weights as they are."
                )


def read_recipe(file: Path) -> Palette:
    """Reads a JSON object of names or patterns of weights and their bits.

    Names are those of the module, with dots or underscores. The key `default` stands for all
    weights that nothing else names.

    Raises:
        OptionError: The file is missing or is no such object.
    """
    try:
        data = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"The recipe '{file}' cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise OptionError(f"The recipe '{file}' is not valid JSON: {error}.") from error
    if not isinstance(data, dict) or not data:
        raise OptionError(
            f"The recipe '{file}' must be a JSON object of weights and their bits, for example "
            '{"default": 6, "conv_in.weight": 8, "*attn2*": null}.'
        )
    rules = {_underscored(name): bits for name, bits in data.items() if name != _DEFAULT}
    return Palette(rules, data.get(_DEFAULT), _DEFAULT in data)


def palettize(
    program: Program, palette: Palette, target: str, progress: Progress | None = None
) -> tuple[Palettized, ...]:
    """Replaces the float16 weights of a program by palettes, in place.

    Weights of operations that stay in float32 stay, too: they are there for their precision.

    Args:
        program: The program, in float16.
        palette: Which bits they get.
        target: One of `TARGETS`; from iOS18 on, groups of 16 channels have palettes of their own.
        progress: Told how far the work is.

    Returns:
        What was replaced.

    Raises:
        OptionError: A rule names no weight of the program, or a weight has neither rule nor
            default.
    """
    weights = dict(_weights(program))
    plan = _plan(palette, weights)
    total, done = sum(int(np.size(weights[name].val)) for name in plan), 0
    result, releases = [], Releases()
    for name, bits in plan.items():
        if progress is not None:
            progress(done / total)
        done += int(np.size(weights[name].val))
        releases.add(int(weights[name].val.nbytes))
        # Each original is let go before the next.
        result.append(put_palette(name, weights.pop(name), bits, target))
    return tuple(result)


def weight_names(program: Program) -> tuple[str, ...]:
    """The weights of a program that a recipe may name, in the order of the program."""
    return tuple(name for name, _ in _weights(program))


def _weights(program: Program) -> Iterator[tuple[str, Any]]:
    """Name and variable of each weight that can have a palette."""
    for function in program.functions.values():
        seen: set[int] = set()
        for operation in function.operations:
            variable = operation.inputs.get(_WEIGHTED.get(operation.op_type, ""))
            if variable is None or id(variable) in seen or not _is_weight(variable):
                continue
            seen.add(id(variable))
            yield str(variable.name).removesuffix(_HALF), variable


def _is_weight(variable: Any) -> bool:
    if variable.op is None or variable.op.op_type != "const":
        return False
    value = variable.val
    return value.dtype == np.float16 and value.size >= _SMALLEST and bool(np.isfinite(value).all())


def _plan(palette: Palette, weights: Mapping[str, Any]) -> dict[str, int]:
    patterns = {name: bits for name, bits in palette.rules.items() if name not in weights}
    unused, missing, plan = set(patterns), [], {}
    for name in weights:
        fitting = [pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)]
        unused.difference_update(fitting)
        if name in palette.rules:
            bits = palette.rules[name]
        elif fitting:
            bits = patterns[fitting[0]]
        else:
            bits = palette.default
            missing += [] if palette.covered else [name]
        if bits is not None:
            plan[name] = bits
    if unused:
        raise OptionError(
            f"The recipe names {listing(sorted(unused))}, which no weight is called; the weights "
            f"are {listing(weights)}."
        )
    if missing:
        raise OptionError(
            f'The recipe says nothing about {listing(missing)}; name them or add "{_DEFAULT}".'
        )
    return plan


def _underscored(name: str) -> str:
    """A name or pattern as MIL has it: `conv_in.weight` is `conv_in_weight`."""
    return re.sub(r"[^\w*?\[\]!]+", "_", name)
