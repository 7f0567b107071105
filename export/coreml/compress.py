"""The weights of a program in the formats of a plan.

coremltools' own palettization clusters about 20,000 weights per second at 6 bits, which makes
hours of a U-Net; here the arithmetic is that of `core/rounding.py`, with which recipes are found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...core.coreml_formats import require_formats
from ...core.errors import ExportError
from ...core.formats import Format
from ...core.ranges import LayerRange, require_ranges
from .activations import quantize_inputs
from .integers import put_integers
from .lut import put_palettes
from .program_weights import ProgramWeight, called, program_weights
from .sparse import put_sparse
from .toolbox import Progress, Releases

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program

_WEIGHT = ".weight"


@dataclass(frozen=True)
class Compressed:
    """One weight and what became of it.

    Attributes:
        name: The weight, as the module calls it.
        format: How it is stored.
        elements: How many numbers it holds.
        bytes: Of everything that is stored of it.
        constant: Name of the operation that unpacks it.
    """

    name: str
    format: Format
    elements: int
    bytes: int
    constant: str


def compress(
    program: Program,
    plan: Mapping[str, Format],
    target: str,
    ranges: Mapping[str, LayerRange] | None = None,
    progress: Progress | None = None,
) -> tuple[Compressed, ...]:
    """Stores the float16 weights of a program in other formats, in place.

    Weights of operations that stay in float32 stay, too: they are there for their precision.

    Args:
        program: The program, in float16.
        plan: The format of each weight, by its name in the module; those that it does not name
            stay as they are.
        target: One of `TARGETS`.
        ranges: Ranges of activations by layer, for layers whose activations are quantized.
        progress: Told how far the work is.

    Returns:
        What was stored otherwise, in the order of the program.

    Raises:
        OptionError: The target lacks one of the formats.
        RecipeError: The program lacks a weight of the plan, or two have the same name in it.
        CalibrationError: There is no range for a layer that needs one.
        ExportError: A weight is not finite.
    """
    require_formats(plan.values(), target)
    weights = program_weights(program)
    names = called((name for name, form in plan.items() if form.kind != "float"), weights)
    chosen = {key: weights[key] for key in weights if key in names and weights[key].is_half}
    del weights
    static = [names[key] for key in chosen if plan[names[key]].activations == "static"]
    require_ranges(ranges or {}, map(_layer, static))
    layers = {
        user.name: _layer(names[key])
        for key, weight in chosen.items()
        for user in weight.users
        if names[key] in static
    }
    total, done = sum(each.variable.val.size for each in chosen.values()), 0
    result, releases = [], Releases()
    for key in list(chosen):
        if progress is not None:
            progress(done / total)
        # Each original is let go before the next.
        weight = chosen.pop(key)
        done += weight.variable.val.size
        releases.add(int(weight.variable.val.nbytes))
        result.append(_store(names[key], key, weight, plan[names[key]], target))
    quantize_inputs(program, layers, ranges or {})
    return tuple(result)


def _store(name: str, key: str, weight: ProgramWeight, form: Format, target: str) -> Compressed:
    variable, constant = weight.variable, f"{key}_{form.kind}"
    if not np.isfinite(variable.val).all():
        raise ExportError(
            f"The weight {name} has infinite values or NaN in float16; leave it as it is."
        )
    elements = int(variable.val.size)
    if form.kind == "integer":
        stored = put_integers(variable, form, target, constant)
    elif form.sparse:
        stored = put_sparse(variable, form, constant)
    else:
        stored = put_palettes(variable, form, target, constant)
    return Compressed(name, form, elements, stored, constant)


def _layer(weight: str) -> str:
    return weight.removesuffix(_WEIGHT)
