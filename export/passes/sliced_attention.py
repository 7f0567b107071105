"""Expands `kdexport::SlicedAttention` into a Scan over slices of the queries."""

from __future__ import annotations

import onnx_ir as ir

from .emitter import Emitter

DOMAIN = "kdexport"


def expand_sliced_attention(model: ir.Model) -> None:
    """Replaces every `SlicedAttention` node by standard operators, in place.

    The number of slices n is ceil(queries / slice_size); the queries are padded to n slices of
    equal length ceil(queries / n), so fewer than n rows are wasted, and the padding is cut off
    again. Keys and values are captured by the body of the Scan.
    """
    for node in list(model.graph):
        if (node.domain, node.op_type) == (DOMAIN, "SlicedAttention"):
            _expand(model.graph, node)
    model.opset_imports.pop(DOMAIN, None)


def _expand(graph: ir.Graph, node: ir.Node) -> None:
    query, key, value = (_present(operand) for operand in node.inputs)
    heads = node.attributes["num_heads"].as_int()
    scale = node.attributes["scale"].as_float()
    size = node.attributes["slice_size"].as_int()
    assert query.shape is not None
    assert query.dtype is not None
    width = query.shape[2]
    assert isinstance(width, int)
    emit = Emitter(query.dtype)

    length = emit("Shape", query, start=1, end=2)
    count = emit("Div", emit("Add", length, emit.ints(size - 1)), emit.ints(size))
    each = emit("Div", emit("Sub", emit("Add", length, count), emit.ints(1)), count)
    missing = emit("Sub", emit("Mul", count, each), length)
    pads = emit("Concat", emit.ints(0, 0, 0, 0), missing, emit.ints(0), axis=0)
    padded = emit("Pad", emit("Mul", query, emit.real(scale)), pads)

    # (batch, slices, length, heads, width) to (slices, batch, heads, length, width)
    split = emit("Concat", emit.ints(0), count, each, emit.ints(heads, width // heads), axis=0)
    slices = emit("Transpose", emit("Reshape", padded, split), perm=[1, 0, 3, 2, 4])
    heads_shape = emit.ints(0, 0, heads, width // heads)
    keys = emit("Transpose", emit("Reshape", key, heads_shape), perm=[0, 2, 3, 1])
    values = emit("Transpose", emit("Reshape", value, heads_shape), perm=[0, 2, 1, 3])
    body = _body(query.dtype, keys, values)
    attended = emit("Scan", slices, body=body, num_scan_inputs=1)

    merged = emit("Transpose", attended, perm=[1, 0, 3, 2, 4])
    rows = emit("Reshape", merged, emit.ints(0, -1, width), shape=(None, None, width))
    result = emit("Slice", rows, emit.ints(0), length, emit.ints(1))
    result.shape, result.type = query.shape, query.type
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], emit.nodes, list(node.outputs), [result]
    )


def _body(dtype: ir.DataType, keys: ir.Value, values: ir.Value) -> ir.Graph:
    """One slice `(batch, heads, length, width)`: softmax(slice·keys)·values."""
    emit = Emitter(dtype)
    rows = ir.Value(name="slice", type=ir.TensorType(dtype), shape=ir.Shape([None] * 4))
    scores = emit("Softmax", emit("MatMul", rows, keys), axis=-1)
    attended = emit("MatMul", scores, values)
    attended.type, attended.shape = ir.TensorType(dtype), ir.Shape([None] * 4)
    return ir.Graph([rows], [attended], nodes=emit.nodes, name="attend")


def _present(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value
