"""`int8`: weights of 8-bit integers that the graph turns back into floats."""

from __future__ import annotations

from .emit import Emitter
from .situation import Situation
from .weight import by_channel


def quantize_int8(emit: Emitter, situation: Situation) -> None:
    """Stores a layer's weight as integers; the layer itself computes as before."""
    layer = emit.layer
    layer.node.replace_input_with(1, by_channel(emit, layer.dtype))
