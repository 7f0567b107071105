"""`int8-static` and `fp8`: what a layer is fed is quantized, with ranges that were calibrated.

    QuantizeLinear -> DequantizeLinear -> Conv or MatMul -> QuantizeLinear -> DequantizeLinear

For CPUs and phones activations are unsigned and asymmetric. ONNX Runtime makes QLinearConv of a
Conv between two such pairs whose bias is quantized too, MatMulIntegerToFloat of a MatMul behind
one, and QGemm of a Gemm behind one whose bias is quantized. TensorRT takes symmetric activations,
and wants neither a quantized bias nor the second pair.
"""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ...core.ranges import TensorRange
from ...core.rounding import integer_channels
from .dynamic import add_bias
from .emit import Array, Emitter, Parts
from .situation import Situation
from .weight import by_channel, by_tensor, channels, shape_of, storable

_FLOAT, _INT32 = ir.DataType.FLOAT, ir.DataType.INT32
# Biases are 32-bit integers; weights that are so small beside one that it would not fit get a
# larger scale than their own.
_LARGEST_BIAS = 2.0**30


def quantize_static(emit: Emitter, situation: Situation) -> None:
    """Replaces a layer by one whose input and weight are 8-bit integers."""
    layer = emit.layer
    ranges = situation.ranges[layer.name]
    if situation.signed:
        entering = _signed(emit, situation, ranges.input)
        weight = by_channel(emit, layer.dtype)
        emit.finish(emit.again(entering, weight, *layer.node.inputs[2:], dtype=layer.dtype))
        return
    # Integer operators of ONNX Runtime have float32 scales only.
    entering = _unsigned(emit, situation, emit.cast(layer.input, _FLOAT), ranges.input)
    if layer.node.op_type == "MatMul":
        weight = by_channel(emit, _FLOAT)
        add_bias(emit, emit.again(entering, weight, dtype=_FLOAT))
        return
    weight, bias = _with_bias(emit, ranges.input.unsigned[0])
    result = emit.again(entering, weight, *bias, dtype=_FLOAT)
    if not layer.is_linear:
        result = _pair(emit, result, "output", *_scale_and_zero(ranges.output))
    emit.finish(emit.cast(result, layer.dtype))


def quantize_fp8(emit: Emitter, situation: Situation) -> None:
    """Replaces a layer by one whose input and weight are float8 e4m3fn."""
    layer, dtype = emit.layer, emit.layer.dtype
    key = ("float8", layer.input, situation.ranges[layer.name].input)
    if key not in situation.shared:
        scale = np.array(situation.ranges[layer.name].input.float8, np.float32)
        zero = np.zeros((), ml_dtypes.float8_e4m3fn)
        scale = storable(scale, dtype).astype(dtype.numpy())
        situation.shared[key] = (_pair(emit, layer.input, "input", scale, zero),)
    (entering,) = situation.shared[key]
    weight = by_tensor(emit, dtype)
    emit.finish(emit.again(entering, weight, *layer.node.inputs[2:], dtype=dtype))


def _with_bias(emit: Emitter, scale: float) -> tuple[ir.Value, list[ir.Value]]:
    """Weight and bias of a Conv or Gemm whose input has a scale."""
    layer, stored = emit.layer, emit.layer.bias
    if stored is None:
        return by_channel(emit, _FLOAT), []

    def compute() -> Sequence[Array]:
        bias = stored.read().astype(np.float32)
        codes, scales = channels_for_bias(layer.read(), bias, scale)
        steps = (scales * np.float32(scale)).astype(np.float32)
        rounded = np.rint(bias.astype(np.float64) / steps)
        return layer.turned(codes), scales, rounded.astype(np.int32), steps

    parts, outputs = Parts(compute), layer.stored.shape[:1]
    weight = channels(emit, parts, _FLOAT, shape_of(layer), layer.channel_axis)
    codes = emit.lazy("bias_codes", parts.part(2), _INT32, outputs)
    steps = emit.lazy("bias_scales", parts.part(3), _FLOAT, outputs)
    zeros = emit.constant("bias_zeros", np.zeros(outputs, np.int32))
    kind = (_FLOAT, ir.Shape(outputs))
    return weight, [emit("DequantizeLinear", codes, steps, zeros, kind=kind, axis=0)]


def channels_for_bias(weight: Array, bias: Array, scale: float) -> tuple[Array, Array]:
    """As `integer_channels`, with scales that leave room for the bias.

    Args:
        weight: The weight, output channels first.
        bias: The bias, an entry per output channel.
        scale: Of the layer's input.
    """
    codes, scales = integer_channels(weight)
    flat = codes.reshape(len(codes), -1)
    # A channel of zeros has any scale; so its bias gets all bits.
    needed = np.abs(bias) / np.float32(scale * _LARGEST_BIAS)
    empty = ~flat.any(axis=1) & (needed > 0)
    larger = (np.where(empty, needed, np.maximum(scales, needed))).astype(np.float32)
    changed = larger != scales
    spread = larger[changed].reshape(-1, *[1] * (weight.ndim - 1))
    codes[changed] = np.rint(weight[changed] / spread).astype(np.int8)
    return codes, larger


def _unsigned(
    emit: Emitter, situation: Situation, value: ir.Value, bounds: TensorRange
) -> ir.Value:
    key = ("unsigned", emit.layer.input, *bounds.unsigned)
    if key not in situation.shared:
        situation.shared[key] = (_pair(emit, value, "input", *_scale_and_zero(bounds)),)
    return situation.shared[key][0]


def _signed(emit: Emitter, situation: Situation, bounds: TensorRange) -> ir.Value:
    value, dtype = emit.layer.input, emit.layer.dtype
    key = ("signed", value, bounds.signed)
    if key not in situation.shared:
        scale = storable(np.array(bounds.signed, np.float32), dtype).astype(dtype.numpy())
        situation.shared[key] = (_pair(emit, value, "input", scale, np.zeros((), np.int8)),)
    return situation.shared[key][0]


def _scale_and_zero(bounds: TensorRange) -> tuple[Array, Array]:
    scale, zero = bounds.unsigned
    return np.array(scale, np.float32), np.array(zero, np.uint8)


def _pair(emit: Emitter, value: ir.Value, name: str, scale: Array, zero: Array) -> ir.Value:
    """Quantizes a value and turns it back into a float; `name` is of the constants."""
    constants = [emit.constant(f"{name}_scale", scale), emit.constant(f"{name}_zero", zero)]
    assert constants[0].dtype is not None
    assert constants[1].dtype is not None
    kind = (constants[1].dtype, value.shape)
    quantized = emit("QuantizeLinear", value, *constants, kind=kind)
    kind = (constants[0].dtype, value.shape)
    return emit("DequantizeLinear", quantized, *constants, kind=kind)
