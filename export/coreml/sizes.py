"""The sizes that one Core ML model is compiled for, as torch.export and coremltools take them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.value_ranges import ValueRanges

from ...core.dimensions import split_size
from ...core.errors import OptionError, listing
from .toolbox import TARGETS

if TYPE_CHECKING:
    from .ports import ApplePort

# What Core ML allows per input.
MOST_SIZES = 128
# The first target on which more than one input may have several shapes.
_SEVERAL_INPUTS = "iOS18"

Sizes = Sequence[Mapping[str, int]]


def require_sizes(inputs: Sequence[ApplePort], sizes: Sizes, target: str) -> None:
    """Checks that Core ML can compile a model for all sizes.

    Args:
        inputs: What the model takes.
        sizes: Height and width in latent cells.
        target: One of `TARGETS`.

    Raises:
        OptionError: There are none or too many, one is there twice, they are no multiples of what
            the model needs, or the target is too old.
    """
    if not 1 <= len(sizes) <= MOST_SIZES:
        raise OptionError(
            f"A Core ML model takes 1 to {MOST_SIZES} sizes, not {len(sizes)}; leave some out."
        )
    twice = [_words(size) for index, size in enumerate(sizes) if size in sizes[:index]]
    if twice:
        raise OptionError(f"The size {twice[0]} is given twice; leave one of them out.")
    moving = [port.name for port in inputs if len({port.sizes(size) for size in sizes}) > 1]
    if len(moving) > 1 and TARGETS[target] < TARGETS[_SEVERAL_INPUTS]:
        raise OptionError(
            f"Several sizes change the shapes of {listing(moving)}, which only {_SEVERAL_INPUTS} "
            f"allows; choose --target {_SEVERAL_INPUTS} or one size."
        )


def largest(sizes: Sizes) -> dict[str, int]:
    """The greatest height and the greatest width: every dimension that varies is above its unit."""
    return {name: max(size[name] for size in sizes) for name in sizes[0]}


def dynamic_shapes(inputs: Sequence[ApplePort], sizes: Sizes) -> dict[str, Any] | None:
    """Which dimensions of the inputs vary, as `torch.export` takes it; None where none does.

    A dimension is counted in the greatest unit that divides all its values, so that torch knows
    that halving it works out.
    """
    units, dims = {}, {}
    for name in sizes[0]:
        values = [size[name] for size in sizes]
        if len(set(values)) > 1:
            units[name] = math.gcd(*values)
            counts = [value // units[name] for value in values]
            dims[name] = Dim(name, min=min(counts), max=max(counts))
    if not dims:
        return None
    return {"inputs": tuple(_dynamic(port, units, dims) for port in inputs)}


def input_shape(port: ApplePort, sizes: Sizes, coremltools: Any) -> Any:
    """The shape of an input as `coremltools.TensorType` takes it; the first size is the default."""
    shapes = list(dict.fromkeys(port.sizes(size) for size in sizes))
    if len(shapes) == 1:
        return shapes[0]
    # One shape per size: with several inputs, Core ML pairs them by position.
    shapes = [port.sizes(size) for size in sizes]
    return coremltools.EnumeratedShapes(shapes=shapes, default=shapes[0])


def plain_symbols(exported: torch.export.ExportedProgram) -> None:
    """Gives every dimension of an input that is computed (`32 * height`) a symbol of its own.

    coremltools refuses inputs with computed dimensions. It has no use for the relation between
    them: it works out all shapes anew, from the shapes of the inputs that it is given.
    """
    environment = ShapeEnv()
    mode = FakeTensorMode(shape_env=environment)
    for node in exported.graph.nodes:
        value = node.meta.get("val")
        if node.op != "placeholder" or not isinstance(value, torch.Tensor):
            continue
        shape: list[Any] = list(value.shape)
        axes = [axis for axis, size in enumerate(shape) if isinstance(size, torch.SymInt)]
        for axis in axes:
            shape[axis] = symbol = environment.create_unbacked_symint()
            exported.range_constraints[symbol.node.expr] = ValueRanges(1, 2**30)
        if axes:
            with mode:
                node.meta["val"] = torch.empty(shape, dtype=value.dtype)


def _dynamic(port: ApplePort, units: Mapping[str, int], dims: Mapping[str, Any]) -> dict[int, Any]:
    varying = {}
    for axis, size in enumerate(port.shape):
        if isinstance(size, int):
            continue
        name, factor, divisor = split_size(size)
        if name not in dims:
            continue
        step, rest = divmod(units[name] * factor, divisor)
        if rest:
            raise OptionError(
                f"The {name}s must be multiples of {divisor} latent cells for the input "
                f"'{port.name}'."
            )
        varying[axis] = dims[name] if step == 1 else step * dims[name]
    return varying


def _words(size: Mapping[str, int]) -> str:
    return " x ".join(str(value) for value in size.values())
