"""Blocks of 4-bit integers as TensorRT takes them: of matrices only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...core.formats import block_size
from ...core.rounding import integer_blocks
from .emit import Array, Emitter, Parts
from .weight import storable


def by_flat_block(emit: Emitter, dtype: ir.DataType) -> ir.Value:
    """The kernel of a convolution of 4-bit integers and a scale per block, as floats of a type.

    TensorRT for RTX 1.7 refuses blocks along an axis that is not one of the last two, so the kernel
    is a matrix with an output channel in each row, the input channels of a pixel side by side.
    """
    layer = emit.layer
    outputs, inputs, *kernel = layer.stored.shape
    rank, size = 2 + len(kernel), block_size(layer.stored.shape)
    channels_last = (0, *range(2, rank), 1)

    def compute() -> Sequence[Array]:
        codes, scales = integer_blocks(layer.read())
        rows = [each.transpose(channels_last).reshape(outputs, -1) for each in (codes, scales)]
        return np.ascontiguousarray(rows[0]), storable(np.ascontiguousarray(rows[1]), dtype)

    parts, count = Parts(compute), inputs * int(np.prod(kernel))
    codes = emit.lazy("codes", parts.part(0), ir.DataType.INT4, (outputs, count))
    scales = emit.lazy("scales", parts.part(1), dtype, (outputs, count // size))
    flat = (dtype, ir.Shape((outputs, count)))
    matrix = emit("DequantizeLinear", codes, scales, kind=flat, axis=1, block_size=size)
    kind = (dtype, ir.Shape(layer.stored.shape))
    if count == inputs:
        # The same numbers in the same order; with a Transpose here TensorRT could not build it.
        return emit("Reshape", matrix, _shape(emit, layer.stored.shape), kind=kind)
    turned = (outputs, *kernel, inputs)
    pixels = emit("Reshape", matrix, _shape(emit, turned), kind=(dtype, ir.Shape(turned)))
    return emit("Transpose", pixels, kind=kind, perm=(0, rank - 1, *range(1, rank - 1)))


def _shape(emit: Emitter, shape: Sequence[int]) -> ir.Value:
    return emit.constant("shape", np.array(shape, np.int64))
