"""Layers whose inputs are 8-bit integers too, with ranges that calibration found.

The layout is the one that `coremltools.optimize.coreml.linear_quantize_activations` puts before
a layer in its mode `linear_symmetric`: `quantize` and `dequantize` with the same float16 scale and
no zero point, between the layer and what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.ranges import LayerRange
from .replace import build_before, half_scales

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Program


def quantize_inputs(
    program: Program, layers: Mapping[str, str], ranges: Mapping[str, LayerRange]
) -> None:
    """Quantizes the inputs of layers, in place.

    Layers that read the same tensor with the same range share the quantized one.

    Args:
        program: The program, in float16.
        layers: Names of the layers by the names of their operations, which are `conv` or `linear`.
        ranges: The range of the input of each of these layers.
    """
    shared: dict[tuple[int, float], Any] = {}
    for function in program.functions.values():
        for operation in list(function.operations):
            layer = layers.get(operation.name)
            if layer is None:
                continue
            source = operation.inputs["x"]
            scale = np.float16(half_scales(np.array(ranges[layer].input.signed, np.float32)))
            key = (id(source), float(scale))
            if key not in shared:
                shared[key] = _quantized(operation, source, scale)
            operation.set_inputs(x=shared[key])


def _quantized(operation: Operation, source: Any, scale: np.float16) -> Any:
    """The input of an operation, rounded to 255 steps of a scale."""

    def make(mb: Any) -> Any:
        name = f"{operation.name}_input"
        steps = mb.quantize(input=source, scale=scale, output_dtype="int8", name=f"{name}_quantize")
        return mb.dequantize(input=steps, scale=scale, name=f"{name}_dequantize")

    return build_before(operation, make)
