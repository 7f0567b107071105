"""What the form of a layer depends on beside the layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from ...core.ranges import LayerRange

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Situation:
    """A graph that is being quantized.

    Attributes:
        ranges: What activations are clipped to, by layer.
        signed: Whether quantized activations are symmetric, as TensorRT takes them.
        standard: Whether to keep to standard operators.
        shared: Inputs of layers that were quantized already, by value and how; it grows.
    """

    ranges: Mapping[str, LayerRange]
    signed: bool
    standard: bool
    shared: dict[tuple[object, ...], tuple[ir.Value, ...]] = field(default_factory=dict)
