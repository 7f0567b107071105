"""The inputs and outputs of an ONNX file, read without a package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import RunError, listing
from ..core.manifest import TensorSpec
from .base import Signature
from .protobuf import DAMAGED, fields

# `TensorProto.DataType` to NumPy's names; bfloat16 and text have none.
_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}

# Numbers of onnx.proto: ModelProto.graph; of GraphProto input and output; of ValueInfoProto name
# and type; TypeProto.tensor_type; of that elem_type and shape; of its dimensions dim_value and
# dim_param.
_GRAPH, _INPUT, _OUTPUT, _NAME, _TYPE, _TENSOR, _ELEMENT, _SHAPE = 7, 11, 12, 1, 2, 1, 1, 2
_DIMENSION, _SIZE, _SYMBOL = 1, 1, 2


def read_signature(model: Path) -> Signature:
    """What an ONNX file takes and gives, dimensions by the names that it has for them.

    Raises:
        RunError: There is no such file, it is damaged, or it takes or gives what NumPy lacks.
    """
    try:
        data = memoryview(model.read_bytes())
        (graph,) = fields(data, _GRAPH)
        inputs, outputs = (list(fields(graph, number)) for number in (_INPUT, _OUTPUT))
        return Signature(
            tuple(_spec(each, model) for each in inputs),
            tuple(_spec(each, model) for each in outputs),
        )
    except OSError as error:
        raise RunError(f"The model '{model}' cannot be read ({error.strerror}).") from error
    except (*DAMAGED, ValueError) as error:
        raise RunError(f"'{model}' is no ONNX model, or damaged; export it again.") from error


def _spec(port: memoryview, model: Path) -> TensorSpec:
    (name,) = (bytes(each).decode() for each in fields(port, _NAME))
    tensors = [tensor for each in fields(port, _TYPE) for tensor in fields(each, _TENSOR)]
    element = next((kind for each in tensors for kind in fields(each, _ELEMENT)), None)
    if element not in _DTYPES:
        raise RunError(
            f"'{name}' of '{model}' is of a type that is not supported (number {element} of ONNX); "
            f"supported are {listing(_DTYPES.values())}."
        )
    dimensions = [
        dimension
        for each in tensors
        for shape in fields(each, _SHAPE)
        for dimension in fields(shape, _DIMENSION)
    ]
    shape = tuple(_size(each, f"{name}.{axis}") for axis, each in enumerate(dimensions))
    return TensorSpec(name, _DTYPES[element], shape)


def _size(dimension: memoryview, otherwise: str) -> int | str:
    """A size or a name; an unnamed dimension gets a name of its own, which agrees with no other."""
    sizes: list[Any] = list(fields(dimension, _SIZE))
    names = [bytes(each).decode() for each in fields(dimension, _SYMBOL)]
    if sizes:
        return int(sizes[-1])
    return next((name for name in names if name), otherwise)
