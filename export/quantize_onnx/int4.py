"""`int4`: weights of 4-bit integers with a scale per block of input channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...core.formats import block_size
from ...core.rounding import integer_blocks
from .emit import Array, Emitter, Parts
from .flat import by_flat_block
from .situation import MICROSOFT, Situation
from .weight import by_block, storable

# MatMulNBits takes blocks of these sizes.
_LEAST_BLOCK = 16
# What it subtracts from the unsigned codes where it is given no zero points.
_ZERO_POINT = 8


def quantize_int4(emit: Emitter, situation: Situation) -> None:
    """Stores a layer's weight as blocks of integers.

    ONNX Runtime has an operator for linear layers that reads such weights as they are; elsewhere,
    and where only standard operators are wanted, the graph turns them back into floats.
    """
    layer = emit.layer
    size = block_size(layer.stored.shape)
    fits = size >= _LEAST_BLOCK and size & (size - 1) == 0
    if layer.is_linear and fits and not situation.standard:
        _multiply(emit, size)
    elif situation.signed and not layer.is_linear:
        layer.node.replace_input_with(1, by_flat_block(emit, layer.dtype))
    else:
        layer.node.replace_input_with(1, by_block(emit, layer.dtype))


def _multiply(emit: Emitter, size: int) -> None:
    """`MatMulNBits`, and an Add where the layer was a Gemm with a bias."""
    layer, dtype = emit.layer, emit.layer.dtype
    outputs, inputs = layer.stored.shape
    blocks = inputs // size

    def compute() -> Sequence[Array]:
        codes, scales = integer_blocks(layer.read())
        return packed(codes).reshape(outputs, blocks, size // 2), storable(scales, dtype)

    parts = Parts(compute)
    shape = (outputs, blocks, size // 2)
    codes = emit.lazy("codes", parts.part(0), ir.DataType.UINT8, shape)
    scales = emit.lazy("scales", parts.part(1), dtype, (outputs, blocks))
    result = emit(
        "MatMulNBits",
        *(layer.input, codes, scales),
        kind=(dtype, layer.node.outputs[0].shape),
        domain=MICROSOFT,
        K=inputs,
        N=outputs,
        bits=4,
        block_size=size,
    )
    if layer.bias_value is not None:
        result = emit("Add", result, layer.bias_value, kind=(dtype, result.shape))
    emit.finish(result)


def packed(codes: Array) -> Array:
    """Two 4-bit integers per byte along the last axis, the first one in the lower half."""
    raised = (codes + _ZERO_POINT).astype(np.uint8)
    return raised[..., ::2] | raised[..., 1::2] << np.uint8(4)
