"""The operators of an ONNX file, read without a package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .protobuf import DAMAGED, fields

# Numbers of onnx.proto: ModelProto.graph, GraphProto.node; of NodeProto op_type and attribute;
# AttributeProto.g, the body of a Scan or an If.
_GRAPH, _NODE, _OPERATOR, _ATTRIBUTE, _BODY = 7, 1, 4, 5, 6

# What makes integers of a layer's input.
_ACTIVATIONS = frozenset(
    {
        *("QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeMatMul"),
        *("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"),
        *("QGemm", "QLinearConv", "QLinearMatMul"),
    }
)


def operators(model: Path) -> frozenset[str]:
    """Names of the operators of an ONNX file, those of bodies included.

    None where the file is missing or damaged: whoever opens it says so.
    """
    if not model.is_file():
        return frozenset()
    try:
        graphs = fields(memoryview(model.read_bytes()), _GRAPH)
        return frozenset(name for graph in graphs for name in _operators(graph))
    except (*DAMAGED, ValueError):
        return frozenset()


def only_weights_are_integers(model: Path) -> bool:
    """Whether a file keeps weights as integers, and computes in floats all the same."""
    found = operators(model)
    return "DequantizeLinear" in found and found.isdisjoint(_ACTIVATIONS)


def _operators(graph: memoryview) -> Iterator[str]:
    for node in fields(graph, _NODE):
        for name in fields(node, _OPERATOR):
            yield bytes(name).decode()
        for attribute in fields(node, _ATTRIBUTE):
            for body in fields(attribute, _BODY):
                yield from _operators(body)
