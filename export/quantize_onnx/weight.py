"""Weights as integers or float8, turned back into floats where the graph needs them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...core.formats import block_size
from ...core.rounding import float8, integer_blocks, integer_channels
from .emit import Array, Emitter, Parts
from .layers import Layer


def by_channel(emit: Emitter, dtype: ir.DataType) -> ir.Value:
    """A weight of 8-bit integers and a scale per output channel, as floats of a type."""
    layer = emit.layer
    parts = Parts(lambda: _turned_channels(layer, dtype))
    return channels(emit, parts, dtype, shape_of(layer), layer.channel_axis)


def channels(
    emit: Emitter, parts: Parts, dtype: ir.DataType, shape: Sequence[int], axis: int
) -> ir.Value:
    """A weight as floats of a type.

    Args:
        emit: Adds to the graph.
        parts: 8-bit integers, and a scale per output channel.
        dtype: Type of the scales.
        shape: Of the integers.
        axis: Axis of the output channels.
    """
    outputs = shape[axis]
    codes = emit.lazy("codes", parts.part(0), ir.DataType.INT8, shape)
    scales = emit.lazy("scales", parts.part(1), dtype, [outputs])
    # ONNX Runtime 1.31 puts a scalar in the place of zero points that are left out, which its own
    # kernel refuses where there are several scales.
    zeros = emit.constant("zeros", np.zeros(outputs, np.int8))
    kind = (dtype, ir.Shape(shape))
    return emit("DequantizeLinear", codes, scales, zeros, kind=kind, axis=axis)


def by_block(emit: Emitter, dtype: ir.DataType) -> ir.Value:
    """A weight of 4-bit integers and a scale per block of input channels, as floats of a type."""
    layer = emit.layer
    axis, size, shape = layer.axes.index(1), block_size(layer.stored.shape), shape_of(layer)

    def compute() -> Sequence[Array]:
        codes, scales = integer_blocks(layer.read())
        return layer.turned(codes), layer.turned(storable(scales, dtype))

    parts = Parts(compute)
    counts = [count // size if at == axis else count for at, count in enumerate(shape)]
    codes = emit.lazy("codes", parts.part(0), ir.DataType.INT4, shape)
    scales = emit.lazy("scales", parts.part(1), dtype, counts)
    kind = (dtype, ir.Shape(shape))
    return emit("DequantizeLinear", codes, scales, kind=kind, axis=axis, block_size=size)


def by_tensor(emit: Emitter, dtype: ir.DataType) -> ir.Value:
    """A weight of float8 numbers and one scale, as floats of a type."""
    layer = emit.layer

    def compute() -> Sequence[Array]:
        values, scale = float8(layer.read())
        return layer.turned(values), storable(np.asarray(scale), dtype)

    parts, shape = Parts(compute), shape_of(layer)
    values = emit.lazy("codes", parts.part(0), ir.DataType.FLOAT8E4M3FN, shape)
    scale = emit.lazy("scale", parts.part(1), dtype, [])
    return emit("DequantizeLinear", values, scale, kind=(dtype, ir.Shape(shape)))


def storable(scales: Array, dtype: ir.DataType) -> Array:
    """Scales in a type of fewer bits, of which none becomes zero."""
    if dtype != ir.DataType.FLOAT16:
        return scales
    return np.maximum(scales, np.finfo(np.float16).smallest_subnormal)


def shape_of(layer: Layer) -> tuple[int, ...]:
    """Shape of a weight's initializer."""
    return tuple(layer.stored.shape[axis] for axis in layer.axes)


def _turned_channels(layer: Layer, dtype: ir.DataType) -> Sequence[Array]:
    codes, scales = integer_channels(layer.read())
    return layer.turned(codes), storable(scales, dtype)
