"""A float32 MIL program to `.mlpackage` folders, in the wanted precision, size and number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...core.coreml_options import COREML_PRECISIONS
from ...core.errors import ExportError, OptionError, listing
from ...core.formats import Format
from ...core.manifest import TensorSpec
from ...core.options import require_choice
from ...core.ranges import LayerRange
from .chunk import split_program
from .compress import Compressed, compress
from .half import to_half
from .metadata import PackageMetadata
from .package import bytes_of, read_specs, write_package
from .toolbox import Progress, deployment_target, part_of

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program

    from .ports import ApplePort

# Smaller constants are attributes of operations, not weights.
_LEAST_WEIGHTS = 10
# How far the work is after each step.
_HALVED, _COMPRESSED = 0.4, 0.8
_DTYPES = {torch.float16: "float16", torch.float32: "float32"}


@dataclass(frozen=True)
class Saved:
    """A package that was written.

    Attributes:
        path: The folder.
        parameters: Number of float weights, before compression.
        operators: How many operations of each type it has, constants not counted.
        bytes: Of all its files.
        inputs: What it takes, as the package says; a size that varies is called as in the port.
        outputs: What it gives.
        compressed: The weights that are stored in another format.
    """

    path: Path
    parameters: int
    operators: Mapping[str, int]
    bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    compressed: tuple[Compressed, ...] = ()


def save_packages(
    program: Program,
    paths: Sequence[Path],
    *,
    inputs: Sequence[ApplePort],
    outputs: Sequence[ApplePort],
    precision: str,
    islands: Collection[str],
    target: str,
    metadata: PackageMetadata,
    plan: Mapping[str, Format] | None = None,
    ranges: Mapping[str, LayerRange] | None = None,
    progress: Progress | None = None,
) -> tuple[Saved, ...]:
    """Writes a program that `to_program` made; the same program gives the same bytes.

    Args:
        program: The float32 program, which is consumed.
        paths: One `NAME.mlpackage`, or two for chunks: the second takes inputs of the program and
            what the first gives, by name, and gives the outputs.
        inputs: What the program must take.
        outputs: What it must give.
        precision: `fp16` or `fp32`.
        islands: Names of operations that stay in float32 in a float16 package.
        target: One of `toolbox.TARGETS`.
        metadata: What the packages say about themselves.
        plan: Formats of weights by their names in the module, or None for float weights.
        ranges: Ranges of activations by layer, for formats that quantize them.
        progress: Told how far the work is.

    Returns:
        What was written, in the order of `paths`.

    Raises:
        OptionError: There is no such precision or target, float32 weights are to be compressed, the
            target lacks a format, or a program of several sizes is to be split.
        RecipeError: The plan does not fit the weights.
        CalibrationError: A range is missing.
        ExportError: coremltools refuses the program, it has no operation of an island's name, or
            the packages do not take and give what the ports say.
    """
    require_choice(precision, COREML_PRECISIONS, "precision")
    minimum = deployment_target(target)
    if plan and precision == "fp32":
        raise OptionError("Compressed weights become float16; choose the precision fp16.")
    if precision == "fp16":
        program = to_half(program, islands, minimum, part_of(progress, 0.0, _HALVED))
    compressed: tuple[Compressed, ...] = ()
    if plan:
        report = part_of(progress, _HALVED, _COMPRESSED)
        compressed = compress(program, plan, target, ranges, report)
    programs: list[Program] = [program]
    crossing: tuple[str, ...] = ()
    if len(paths) > 1:
        chunks = split_program(program)
        programs, crossing = list(chunks.programs), chunks.crossing
    described = dict.fromkeys(crossing, "Handed from the first chunk to the second.")
    described |= {port.name: port.description for port in (*inputs, *outputs)}
    saved = []
    for index, (part, path) in enumerate(zip(programs, paths, strict=True)):
        share = (1.0 - _COMPRESSED) / len(paths)
        start = _COMPRESSED + share * index
        report = part_of(progress, start, start + share)
        counts = _parameters(part), _operators(part)
        names = {op.name for op in part.functions["main"].operations}
        spec = write_package(part, path, minimum, metadata, described, report)
        kept = tuple(each for each in compressed if each.constant in names)
        saved.append(
            Saved(
                path,
                *counts,
                bytes_of(path),
                read_specs(spec.description.input, inputs),
                read_specs(spec.description.output, outputs),
                kept,
            )
        )
    require_ports(saved, inputs, outputs, crossing)
    return tuple(saved)


def require_ports(
    saved: Sequence[Saved],
    inputs: Sequence[ApplePort],
    outputs: Sequence[ApplePort],
    crossing: Collection[str],
) -> None:
    """Raises `ExportError` where packages, as a chain, do not take and give what the ports say."""
    taken: dict[str, TensorSpec] = {}
    for each in saved:
        taken |= {spec.name: spec for spec in each.inputs if spec.name not in crossing}
    given = {spec.name: spec for spec in saved[-1].outputs}
    problems = [*_differences(taken, inputs), *_differences(given, outputs)]
    if list(given) != [port.name for port in outputs]:
        problems.append(f"the outputs are {listing(given)}")
    if problems:
        names = listing(each.path.name for each in saved)
        raise ExportError(f"{names} would not load in Apple's library: {'; '.join(problems)}.")


def _differences(specs: Mapping[str, TensorSpec], ports: Sequence[ApplePort]) -> Iterator[str]:
    """What is written that the ports do not say, or the other way round."""
    wanted = {port.name: port for port in ports}
    for name in [*wanted, *(each for each in specs if each not in wanted)]:
        if name not in wanted or name not in specs:
            yield f"'{name}' is {'missing' if name in wanted else 'not in the contract'}"
            continue
        spec, port = specs[name], wanted[name]
        fixed = zip(spec.shape, port.shape, strict=False)
        if spec.dtype != _DTYPES[port.dtype]:
            yield f"'{name}' is {spec.dtype} instead of {_DTYPES[port.dtype]}"
        if len(spec.shape) != len(port.shape) or any(
            size != each for size, each in fixed if isinstance(each, int)
        ):
            yield f"'{name}' has the shape {spec.shape} instead of {port.shape}"


def _operators(program: Program) -> dict[str, int]:
    """How many operations of each type a program has, by name; constants are none."""
    counts = Counter(str(each.op_type) for each in program.functions["main"].operations)
    return {name: counts[name] for name in sorted(counts) if not name.startswith("const")}


def _parameters(program: Program) -> int:
    """Elements of all float weights, counted as if none were compressed."""
    count = 0
    for operation in program.functions["main"].operations:
        if not str(operation.op_type).startswith("const"):
            continue
        output = operation.outputs[0]
        feeds = any(str(user.op_type).startswith("constexpr_") for user in output.child_ops)
        size = int(np.prod(output.shape, dtype=np.int64))
        floats = any(output.is_tensor_or_scalar_of(dtype=kind) for kind in ("fp16", "fp32"))
        if size >= _LEAST_WEIGHTS and floats and not feeds:
            count += size
    return count
