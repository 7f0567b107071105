"""What ONNX Runtime really computes in integers: a file may ask for more than it does."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import DependencyError, RunError, first_line, listing
from .ort_session import onnxruntime_package, session_options
from .widened import session_source

# Operators that convolutions and linear layers become, to the input that is the weight.
_INTEGER = {
    "ConvInteger": 1,
    "DynamicQuantizeMatMul": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "QGemm": 3,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
}
_FLOAT = {
    "Conv": 1,
    "FusedConv": 1,
    "FusedGemm": 1,
    "FusedMatMul": 1,
    "Gemm": 1,
    "MatMul": 1,
    "MatMulNBits": 1,
    "NhwcFusedConv": 1,
}
_WEIGHTS = _INTEGER | _FLOAT
# What may stand between an initializer and the layer that it is the weight of.
_PASSING = ("Cast", "DequantizeLinear", "Reshape", "Transpose")
# What exported weights' names begin with, and what ONNX Runtime appends to the name of an output to
# name a layer.
_PREFIX, _REARRANGED = "inner.", "_nchwc"
_OPTIMIZED, _DATA = "optimized.onnx", "optimized.onnx.data"


@dataclass(frozen=True)
class Coverage:
    """The layers of a component as ONNX Runtime runs them on the CPU.

    Attributes:
        layers: The operator that each became, by the layer's name.
        asked: Those whose input and weight the file has as integers.
    """

    layers: Mapping[str, str]
    asked: tuple[str, ...]

    @property
    def operators(self) -> dict[str, int]:
        """Number of layers by the operator that they became, the most frequent first."""
        return dict(Counter(self.layers.values()).most_common())

    @property
    def integer(self) -> tuple[str, ...]:
        """Layers that multiply integers."""
        return tuple(name for name, operator in self.layers.items() if operator in _INTEGER)

    @property
    def missed(self) -> tuple[str, ...]:
        """Layers that multiply floats although the file asks for integers."""
        return tuple(name for name in self.asked if name not in self.integer)

    def describe(self) -> str:
        """The figures in a sentence."""
        found = ", ".join(f"{count} {name}" for name, count in self.operators.items())
        text = f"{len(self.integer)} of {len(self.layers)} layers in integers ({found})"
        return (
            f"{text}; in floats, though quantized: {listing(self.missed)}" if self.missed else text
        )


def measure_coverage(model: Path, threads: int | None = None) -> Coverage:
    """Opens an ONNX file as the runtime does, and counts what its layers became.

    A copy of the file as ONNX Runtime has optimized it lies in a temporary folder meanwhile.

    Args:
        model: The `.onnx` file.
        threads: See `OrtOptions`.

    Raises:
        DependencyError: onnxruntime or onnx is not installed.
        RunError: ONNX Runtime cannot open the file.
    """
    runtime, onnx = onnxruntime_package(), _onnx()
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / _OPTIMIZED
        options = session_options(model, threads)
        options.optimized_model_filepath = str(optimized)
        for name, value in (("file_name", _DATA), ("min_size_in_bytes", "1024")):
            entry = f"session.optimized_model_external_initializers_{name}"
            options.add_session_config_entry(entry, value)
        try:
            source = session_source(model, options)
            runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise RunError(f"ONNX Runtime cannot open '{model}' ({first_line(error)}).") from error
        before = onnx.load(model, load_external_data=False).graph
        after = onnx.load(optimized, load_external_data=False).graph
    outputs = {node.output[0]: name for node, name in _layers(before)}
    layers = {}
    for node, name in _layers(after):
        # Rearranged layers lose the names of their weights, and are called after what they give.
        given = node.name.removesuffix(_REARRANGED)
        layers[name or outputs.get(given) or given or node.output[0]] = node.op_type
    return Coverage(layers, tuple(_asked(before)))


def _layers(graph: Any) -> Iterator[tuple[Any, str]]:
    """The nodes that have a constant weight, with the names of their layers where they tell."""
    constants = {tensor.name: tensor.name for tensor in graph.initializer}
    for node in graph.node:
        first = next(iter(node.input), "")
        if node.op_type in _PASSING and first in constants:
            constants[node.output[0]] = constants[first]
        index = _WEIGHTS.get(node.op_type, len(node.input))
        if index < len(node.input) and node.input[index] in constants:
            yield node, _name(constants[node.input[index]], node)


def _asked(graph: Any) -> Iterator[str]:
    """The layers of a file whose input and weight are integers."""
    made: set[str] = set()
    stored = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        through = node.op_type == "DequantizeLinear" and node.input[0] in made | stored
        if through or node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear"):
            made.update(node.output)
    for node, name in _layers(graph):
        if node.input[0] in made and (node.op_type in _INTEGER or node.input[1] in made):
            yield name


def _name(weight: str, node: Any) -> str:
    """The layer that a weight or a node is called after, or nothing."""
    for name in (weight, node.name):
        path: str = name.removeprefix(_PREFIX).partition(".weight")[0].partition("/")[0]
        if name.startswith(_PREFIX) or "/" in name:
            return path
    return ""


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise DependencyError(
            "Reading what ONNX Runtime made of a file needs the package onnx; install it with "
            "`pip install onnx`."
        ) from error
    return onnx
