"""bfloat16 models on the CPU, for which ONNX Runtime has hardly any bfloat16 kernels.

A widened graph computes in float32 and rounds every result to bfloat16, as GPUs do, which add up in
float32 too. Its weights are the bfloat16 numbers of the file, which ONNX Runtime itself converts
when it opens the graph: the external data is used as it lies there.

    Conv(x, w) → y      becomes      Conv(x, Cast(w)) → Cast to bfloat16 → Cast to float32 → y
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from ..core.errors import DependencyError, RunError
from .protobuf import DAMAGED, fields

# What a parity record says about a widened model.
WIDENED = "bfloat16 in float32, each result rounded to bfloat16"

# Setting of a session that is made from bytes: the folder of the external data.
_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"

# Numbers of onnx.proto: the fields ModelProto.graph, GraphProto.initializer, TensorProto.data_type.
_GRAPH, _INITIALIZER, _DATA_TYPE = 7, 5, 2
_FLOAT, _BFLOAT16 = 1, 16

# Operators that only move numbers, which are rounded already.
_MOVERS = frozenset(
    {
        *("Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice"),
        *("Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)
# Operators whose results are of another type than their inputs.
_UNTYPED = frozenset(
    {
        *("ArgMax", "Equal", "Greater", "IsNaN", "Less", "Shape", "Size"),
        *("QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"),
    }
)


def session_source(model: Path, options: Any) -> str | bytes:
    """What a session on the CPU is made from: the model itself, or a widened graph.

    Args:
        model: The `.onnx` file.
        options: The `SessionOptions`, which learn where the weights of a widened graph lie.

    Raises:
        DependencyError: The model holds bfloat16, and onnx is not installed.
        RunError: An input or output of it is bfloat16, which NumPy lacks.
    """
    if not holds_bfloat16(model):
        return str(model)
    options.add_session_config_entry(_EXTERNAL_FOLDER, str(model.parent.resolve()))
    return widened(model)


def holds_bfloat16(model: Path) -> bool:
    """Whether an ONNX file has a bfloat16 weight; see `holds`."""
    return holds(model, _BFLOAT16)


def holds(model: Path, dtype: int) -> bool:
    """Whether an ONNX file has a weight of a type; needs no package to find out.

    False where the file is missing or damaged: whoever opens it says so.

    Args:
        model: The `.onnx` file.
        dtype: A number of `TensorProto.DataType`.
    """
    if not model.is_file():
        return False
    data = memoryview(model.read_bytes())
    try:
        return any(
            kind == dtype
            for graph in fields(data, _GRAPH)
            for tensor in fields(graph, _INITIALIZER)
            for kind in fields(tensor, _DATA_TYPE)
        )
    except DAMAGED:
        return False


def widened(model: Path) -> bytes:
    """The graph of a bfloat16 model as one that computes in float32.

    Its external data stays where it is. Raises what `session_source` does.
    """
    onnx = _onnx()
    proto = onnx.load(model, load_external_data=False)
    for port in (*proto.graph.input, *proto.graph.output):
        if port.type.tensor_type.elem_type == _BFLOAT16:
            raise RunError(
                f"'{port.name}' of '{model}' is bfloat16, which NumPy lacks; export the model with "
                "inputs and outputs in float32."
            )
    _widen(proto.graph, frozenset(), onnx.helper.make_node)
    serialized: bytes = proto.SerializeToString()
    return serialized


def _widen(graph: Any, outer: frozenset[str], make_node: Any) -> None:
    """Widens a graph in place; `outer` are the bfloat16 values that it may see around it."""
    narrow, nodes = set(outer), []

    def cast(source: str, target: str, dtype: int) -> None:
        nodes.append(make_node("Cast", [source], [target], to=dtype))

    for tensor in graph.initializer:
        if tensor.data_type == _BFLOAT16:
            narrow.add(tensor.name)
            cast(f"{tensor.name}/bfloat16", tensor.name, _FLOAT)
            tensor.name += "/bfloat16"
    narrow.update(_retyped(graph.input))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _widen(attribute.g, frozenset(narrow), make_node)
        nodes.append(node)
        if not _is_narrow(node, narrow):
            continue
        narrow.update(node.output)
        for index, name in enumerate(node.output):
            if not name or node.op_type in _MOVERS:
                continue
            if node.op_type != "Cast":
                node.output[index] = f"{name}/float32"
                cast(f"{name}/float32", f"{name}/bfloat16", _BFLOAT16)
            else:
                node.output[index] = f"{name}/bfloat16"
            cast(f"{name}/bfloat16", name, _FLOAT)
    _retyped(graph.output)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def _is_narrow(node: Any, narrow: set[str]) -> bool:
    """Whether the results of a node are bfloat16."""
    if node.op_type == "Cast":
        return any(each.name == "to" and each.i == _BFLOAT16 for each in node.attribute)
    return node.op_type not in _UNTYPED and not narrow.isdisjoint(node.input)


def _retyped(ports: Any) -> list[str]:
    """Turns the bfloat16 ports of a subgraph into float32 ones; gives their names."""
    found = [port for port in ports if port.type.tensor_type.elem_type == _BFLOAT16]
    for port in found:
        port.type.tensor_type.elem_type = _FLOAT
    return [port.name for port in found]


def _onnx() -> ModuleType:
    try:
        import onnx
    except ImportError as error:
        raise DependencyError(
            "Running a bfloat16 model on the CPU needs the package onnx; install it with "
            "`pip install onnx`."
        ) from error
    return onnx  # type: ignore[no-any-return]
