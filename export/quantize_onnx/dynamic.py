"""`int8-dynamic`: products of 8-bit integers, the range of the input found at each call.

    DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul

ONNX Runtime makes one operator of these, DynamicQuantizeMatMul, or MatMulIntegerToFloat where
several layers share an input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...core.errors import ExportError
from ...core.rounding import integer_channels
from .emit import Array, Emitter, Parts
from .situation import Situation

_FLOAT = ir.DataType.FLOAT


def quantize_dynamic(emit: Emitter, situation: Situation) -> None:
    """Replaces a linear layer.

    Raises:
        ExportError: It is a convolution.
    """
    layer = emit.layer
    if not layer.is_linear:
        raise ExportError(
            f"The convolution '{layer.name}' cannot be int8-dynamic, which is for linear layers; "
            "give it int8 or int8-static."
        )
    outputs, inputs = layer.stored.shape
    output = layer.node.outputs[0]

    def compute() -> Sequence[Array]:
        codes, scales = integer_channels(layer.read())
        return np.ascontiguousarray(codes.T), scales

    parts = Parts(compute)
    codes = emit.lazy("codes", parts.part(0), ir.DataType.INT8, (inputs, outputs))
    scales = emit.lazy("scales", parts.part(1), _FLOAT, (outputs,))
    quantized, scale, zero = _quantized_input(emit, situation)
    kind = (ir.DataType.INT32, output.shape)
    product = emit("MatMulInteger", quantized, codes, zero, kind=kind)
    # ONNX Runtime fuses exactly this order: the scales with each other first.
    factors = emit("Mul", scale, scales, kind=(_FLOAT, ir.Shape([outputs])))
    product = emit("Cast", product, kind=(_FLOAT, output.shape), to=int(_FLOAT))
    result = emit("Mul", product, factors, kind=(_FLOAT, output.shape))
    add_bias(emit, result)


def add_bias(emit: Emitter, result: ir.Value) -> None:
    """Ends a linear layer that was computed in float32: its type again, and its bias."""
    layer = emit.layer
    assert layer.node.outputs[0].dtype is not None
    result = emit.cast(result, layer.node.outputs[0].dtype)
    if layer.bias_value is not None:
        result = emit("Add", result, layer.bias_value, kind=(layer.dtype, result.shape))
    emit.finish(result)


def _quantized_input(emit: Emitter, situation: Situation) -> tuple[ir.Value, ...]:
    """The input as integers, its scale and its zero point; once for all layers that it goes to."""
    value = emit.layer.input
    key = ("dynamic", value)
    if key not in situation.shared:
        scalar = ir.Shape([])
        kinds = [
            (ir.DataType.UINT8, value.shape),
            (_FLOAT, scalar),
            (ir.DataType.UINT8, scalar),
        ]
        wide = emit.cast(value, _FLOAT)
        situation.shared[key] = tuple(emit.several("DynamicQuantizeLinear", [wide], kinds))
    return situation.shared[key]
