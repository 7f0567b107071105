"""What an ONNX file says about itself, read without its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto

from ...core.errors import ExportError

# The types that matter here, by ONNX's number; all others pass under ONNX's own name.
_NAMES = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.INT8: "int8",
    TensorProto.FLOAT8E4M3FN: "float8",
    TensorProto.FLOAT8E4M3FNUZ: "float8",
    TensorProto.FLOAT8E5M2: "float8",
    TensorProto.FLOAT8E5M2FNUZ: "float8",
    TensorProto.FLOAT4E2M1: "float4",
}
# Attributes of Cast, of QuantizeLinear, and of what makes tensors that hold a type.
_TYPE_ATTRIBUTES = ("to", "output_dtype", "dtype")


@dataclass(frozen=True)
class OnnxGraph:
    """An ONNX file.

    Attributes:
        path: Where it lies.
        inputs: Shape of each input: a size, a name, or `?` where the file says nothing.
        dtypes: The types of its tensors, such as `float16`.
        foreign: An operator that is not ONNX's own, as `domain.Operator`, or None.
        unsigned: A node that quantizes to unsigned integers, or None.
        files: The file itself and those with its weights.
        bytes: Size of all of them.
    """

    path: Path
    inputs: dict[str, tuple[int | str, ...]]
    dtypes: frozenset[str]
    foreign: str | None
    unsigned: str | None
    files: tuple[Path, ...]
    bytes: int


def read_graph(path: Path) -> OnnxGraph:
    """Reads an ONNX file without its weights, of which it only looks whether they are there.

    Args:
        path: The file.

    Raises:
        ExportError: It is missing or no ONNX file, or its weights are missing or too short.
    """
    if not path.is_file():
        raise ExportError(f"There is no ONNX file '{path}'; export the model again.")
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ExportError(f"'{path}' is no ONNX file; export the model again.") from error
    if not model.graph.output:
        raise ExportError(f"'{path}' is no ONNX file, or an empty one; export the model again.")
    graphs = list(_graphs(model.graph))
    files = (path, *_weight_files(path, graphs))
    weights = {each.name for each in model.graph.initializer}
    return OnnxGraph(
        path=path,
        inputs={
            each.name: _shape(each.type.tensor_type)
            for each in model.graph.input
            if each.name not in weights
        },
        dtypes=frozenset(_name(each) for graph in graphs for each in _dtypes(graph)),
        foreign=_foreign(graphs),
        unsigned=_unsigned(graphs),
        files=files,
        bytes=sum(each.stat().st_size for each in files),
    )


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


def _dtypes(graph: Any) -> Iterator[int]:
    """The types that occur in a graph, as ONNX numbers them."""
    yield from (each.data_type for each in _tensors(graph))
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.type.tensor_type.elem_type
    for node in graph.node:
        yield from (each.i for each in node.attribute if each.name in _TYPE_ATTRIBUTES)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        yield from (each.t for each in node.attribute if each.HasField("t"))


def _name(number: int) -> str:
    return _NAMES.get(number) or str(TensorProto.DataType.Name(number)).lower()


def _shape(kind: Any) -> tuple[int | str, ...]:
    return tuple(
        size.dim_value if size.HasField("dim_value") else size.dim_param or "?"
        for size in kind.shape.dim
    )


def _foreign(graphs: list[Any]) -> str | None:
    for graph in graphs:
        for node in graph.node:
            if node.domain not in ("", "ai.onnx"):
                return f"{node.domain}.{node.op_type}"
    return None


def _unsigned(graphs: list[Any]) -> str | None:
    for graph in graphs:
        zeros = {each.name for each in graph.initializer if each.data_type == TensorProto.UINT8}
        for node in graph.node:
            quantizes = node.op_type == "QuantizeLinear" and zeros.intersection(node.input[2:])
            if quantizes or node.op_type == "DynamicQuantizeLinear":
                return str(node.name or node.op_type)
    return None


def _weight_files(path: Path, graphs: list[Any]) -> tuple[Path, ...]:
    """The files with weights, which must be as long as the graph says."""
    ends: dict[str, int] = {}
    for graph in graphs:
        for tensor in _tensors(graph):
            said = {each.key: each.value for each in tensor.external_data}
            if said:
                end = int(said.get("offset", 0)) + int(said.get("length", 0))
                ends[said["location"]] = max(end, ends.get(said["location"], 0))
    for location, end in ends.items():
        file = path.parent / PurePosixPath(location)
        outside = PurePosixPath(location).is_absolute() or ".." in PurePosixPath(location).parts
        if outside or not file.is_file() or file.stat().st_size < end:
            raise ExportError(
                f"The weights of '{path}' in '{location}' are missing or cut off; copy them again "
                "or export the model again."
            )
    return tuple(path.parent / PurePosixPath(each) for each in sorted(ends))
