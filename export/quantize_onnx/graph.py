"""Replaces the weights of a graph by what a plan says, and the operators that use them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx_ir as ir

from ...core.formats import FLOAT, Format
from ...core.ranges import require_ranges
from ..weights import Weights
from .dynamic import quantize_dynamic
from .emit import Emitter
from .int4 import quantize_int4
from .int8 import quantize_int8
from .layers import Layer, find_layers, require_known_uses
from .plan import PartPlan
from .quantized import Quantized
from .situation import MICROSOFT, Situation
from .static import quantize_fp8, quantize_static

QUANTIZERS: dict[str, Callable[[Emitter, Situation], None]] = {
    "int8": quantize_int8,
    "int4": quantize_int4,
    "int8-dynamic": quantize_dynamic,
    "int8-static": quantize_static,
    "fp8": quantize_fp8,
}


def quantize_graph(
    model: ir.Model,
    weights: Weights,
    permutations: Mapping[str, tuple[int, ...]],
    plan: PartPlan,
) -> tuple[Quantized, ...]:
    """Stores weights in the formats of a plan, in place.

    The numbers are read and rounded when the graph is written, a layer at a time.

    Args:
        model: The graph; its weights are initializers without a value.
        weights: The weights, opened.
        permutations: The axes of those that the graph wants transposed, by initializer.
        plan: The formats, and what they depend on.

    Returns:
        All layers that have weights, in the order of the graph.

    Raises:
        CalibrationError: A layer needs ranges and has none.
        ExportError: A weight is used by something that has no such form.
    """
    layers = find_layers(model, weights, permutations)
    require_known_uses(model, plan.formats, layers)
    formats = {layer: plan.formats.get(f"{layer.name}.weight", FLOAT) for layer in layers}
    static = [layer.name for layer, form in formats.items() if form.activations == "static"]
    require_ranges(plan.ranges, static)
    situation = Situation(plan.ranges, plan.signed, plan.standard)
    found = tuple(_quantize(model, layer, form, situation) for layer, form in formats.items())
    if any(node.domain == MICROSOFT for node in model.graph):
        model.opset_imports.setdefault(MICROSOFT, 1)
    return found


def _quantize(model: ir.Model, layer: Layer, form: Format, situation: Situation) -> Quantized:
    initializers = model.graph.initializers
    count = math.prod(layer.stored.shape)
    # So that runtimes call it after the layer.
    layer.node.name = f"{layer.name}/{layer.node.op_type}"
    if form.kind == "float":
        return Quantized(layer.name, form.name, int(layer.dtype.itemsize * count), count)
    before, inputs = set(initializers), layer.node.inputs[1:]
    QUANTIZERS[form.name](Emitter(model.graph, layer), situation)
    for value in inputs:
        name = value.name if value is not None and not value.uses() else None
        if name is not None and name in initializers:
            del initializers[name]
    added = [value.const_value for name, value in initializers.items() if name not in before]
    size = sum(each.nbytes for each in added if each is not None)
    return Quantized(layer.name, form.name, size, count)
