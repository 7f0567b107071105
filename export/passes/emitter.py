"""Writes the operators that a pass puts in the place of others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir


class Emitter:
    """Collects nodes; calling it adds one and returns its only output.

    Attributes:
        dtype: Of `real`.
        nodes: What was collected, in order.
    """

    def __init__(self, dtype: ir.DataType) -> None:
        self.dtype = dtype
        self.nodes: list[ir.Node] = []

    def __call__(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        shape: Sequence[int | None] | None = None,
        **attributes: int | str | Sequence[int] | ir.Graph,
    ) -> ir.Value:
        """Adds an operator; `shape` is that of its output, where somebody needs it."""
        node = ir.node(op_type, list(inputs), attributes=attributes)
        if shape is not None:
            node.outputs[0].shape = ir.Shape(shape)
        self.nodes.append(node)
        return node.outputs[0]

    def array(self, array: np.ndarray) -> ir.Value:
        """A constant."""
        node = ir.node("Constant", [], attributes={"value": ir.tensor(array)})
        self.nodes.append(node)
        return node.outputs[0]

    def ints(self, *values: int) -> ir.Value:
        """A 1-D int64 constant."""
        return self.array(np.array(values, dtype=np.int64))

    def real(self, value: float) -> ir.Value:
        """A scalar constant of `dtype`."""
        return self.array(np.array(value, dtype=self.dtype.numpy()))
