"""The layers of a graph that have weights: convolutions and products with a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...core.errors import ExportError, listing
from ...core.formats import Format
from ..tensors import ReadableTensor
from ..weights import Weights

# Weights are attributes of `Wrapped.inner`.
PREFIX = "inner."
_WEIGHT = ".weight"
_OPERATORS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, eq=False)
class Layer:
    """A Conv, Gemm or MatMul whose second input is a weight.

    Attributes:
        name: Path of the module, such as `down_blocks.0.resnets.0.conv1`.
        node: The operator.
        weight: Its weight, an initializer that holds no value yet.
        stored: The weight as the module has it, output channels first, input channels second.
        axes: Which of the module's axes each axis of the initializer is.
        bias: The bias of a Conv or Gemm, or None; MatMul is followed by an Add.
    """

    name: str
    node: ir.Node
    weight: ir.Value
    stored: ReadableTensor
    axes: tuple[int, ...]
    bias: ReadableTensor | None

    @property
    def is_linear(self) -> bool:
        """Whether it is a product of matrices."""
        return self.node.op_type != "Conv"

    @property
    def input(self) -> ir.Value:
        """What it is applied to."""
        value = self.node.inputs[0]
        assert value is not None
        return value

    @property
    def dtype(self) -> ir.DataType:
        """What it computes in."""
        assert self.weight.dtype is not None
        return self.weight.dtype

    @property
    def channel_axis(self) -> int:
        """The axis of the initializer that output channels lie on."""
        return self.axes.index(0)

    @property
    def bias_value(self) -> ir.Value | None:
        """The third input, where there is one."""
        return self.node.inputs[2] if len(self.node.inputs) > 2 else None

    def read(self) -> NDArray[np.float32]:
        """The weight as the module has it, in float32."""
        return self.stored.read().astype(np.float32, copy=False)

    def turned(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """An array with the module's axes as one with the axes of the initializer."""
        return np.ascontiguousarray(array.transpose(self.axes))


def find_layers(
    model: ir.Model, weights: Weights, permutations: Mapping[str, tuple[int, ...]]
) -> list[Layer]:
    """The layers of a graph, in its order.

    Args:
        model: The graph; its weights are initializers without a value.
        weights: The weights, opened.
        permutations: The axes of those that the graph wants transposed, by initializer.
    """
    layers = []
    for node in model.graph:
        weight = node.inputs[1] if node.op_type in _OPERATORS and not node.domain else None
        if weight is None or not weight.is_initializer() or weight.const_value is not None:
            continue
        assert weight.name is not None
        stored = weights.tensors.get(weight.name.removeprefix(PREFIX))
        if stored is None:
            continue
        name = weight.name.removeprefix(PREFIX).removesuffix(_WEIGHT)
        axes = permutations.get(weight.name, tuple(range(len(stored.shape))))
        bias = _bias(node, weights)
        layers.append(Layer(name, node, weight, stored, axes, bias))
    return layers


def require_known_uses(model: ir.Model, plan: Mapping[str, Format], layers: list[Layer]) -> None:
    """Raises `ExportError` where a weight with a format is used by something that has none.

    Tables that rows are gathered from (embeddings) stay as they are; that is no error.
    """
    known = {layer.weight.name for layer in layers if len(layer.weight.uses()) == 1}
    other = []
    for name, form in plan.items():
        weight = model.graph.initializers.get(PREFIX + name)
        if form.kind == "float" or weight is None or weight.name in known:
            continue
        operators = sorted({use.node.op_type for use in weight.uses()})
        if operators != ["Gather"]:
            other.append(f"{name} ({listing(operators)})")
    if other:
        raise ExportError(
            f"There is no ONNX form of {listing(other)} with few bits; give these weights the "
            "format float in a recipe."
        )


def _bias(node: ir.Node, weights: Weights) -> ReadableTensor | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None or value.name is None:
        return None
    return weights.tensors.get(value.name.removeprefix(PREFIX))
