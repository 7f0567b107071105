"""One component to one ONNX file: trace without weights, transform, then stream the weights in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ..core.dimensions import evaluate
from ..core.errors import ExportError, listing
from ..core.manifest import TensorSpec
from .passes.fold_transposes import fold_transposes
from .passes.name_ports import name_ports
from .passes.simplify import simplify
from .passes.sliced_attention import expand_sliced_attention
from .passes.split_upsampling import split_upsampling
from .quantize_onnx.graph import quantize_graph
from .quantize_onnx.layers import PREFIX
from .quantize_onnx.plan import PartPlan
from .quantize_onnx.quantized import Quantized
from .skeleton import fake_parameters
from .tensors import ReadableTensor
from .trace import trace_onnx
from .weights import Weights
from .wrap import Port, Wrapped

MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"

# Smaller tensors stay inside the graph file, where every tool can fold them.
_EXTERNAL_BYTES = 1024

# Called with bytes done and bytes in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class OnnxFile:
    """A written component.

    Attributes:
        inputs: Its inputs, as the manifest records them.
        outputs: Its outputs.
        parameters: Its number of weights.
        operators: How many operators of each type it has, as `Component.operators`.
        quantized: Its convolutions and linear layers with the formats of their weights; empty
            where there was no plan.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int
    operators: Mapping[str, int]
    quantized: tuple[Quantized, ...] = ()


def write_onnx(
    wrapped: Wrapped,
    mode: FakeTensorMode,
    weights: Weights,
    folder: Path,
    *,
    opset: int,
    static: Mapping[str, int],
    plan: PartPlan | None = None,
    progress: Progress | None = None,
) -> OnnxFile:
    """Exports one component to `folder/model.onnx` and `folder/model.onnx.data`.

    Args:
        wrapped: The component; its parameters may lie on the meta device.
        mode: A fresh fake mode.
        weights: Its weights, opened.
        folder: Where to write; created.
        opset: ONNX opset.
        static: Fixed dimensions, see `trace_onnx`.
        plan: Formats of the weights; None leaves them in their type.
        progress: Told how many bytes of weights are written.

    Raises:
        ExportError: The tracer cannot follow the module, a weight has no place in the file, or it
            has no such format.
        CalibrationError: A layer needs ranges and has none.
    """
    model, permutations = make_graph(wrapped, mode, opset, static)
    inputs = tuple(_fixed(port, static) for port in wrapped.inputs)
    outputs = tuple(_fixed(port, static) for port in wrapped.outputs)
    name_ports(model, inputs, outputs)
    parameters = _count(model, weights)
    quantized = quantize_graph(model, weights, permutations, plan) if plan else ()
    # Only now is known which weights stay float32.
    split_upsampling(model)
    _attach(model, weights, permutations)
    model.producer_name = "kdexport"
    model.graph.name = folder.name
    folder.mkdir(parents=True, exist_ok=True)
    _save(model, folder, progress)
    ports = tensor_specs(inputs), tensor_specs(outputs)
    return OnnxFile(*ports, parameters, count_operators(model), quantized)


def make_graph(
    wrapped: Wrapped, mode: FakeTensorMode, opset: int, static: Mapping[str, int]
) -> tuple[ir.Model, Mapping[str, tuple[int, ...]]]:
    """Everything about a component's graph that does not depend on its weights.

    Args:
        wrapped: The component; its parameters may lie on the meta device.
        mode: A fresh fake mode.
        opset: ONNX opset.
        static: Fixed dimensions, see `trace_onnx`.

    Returns:
        The graph without weights, and the axes to permute of those that it wants transposed, by
        name.

    Raises:
        ExportError: The tracer cannot follow the module.
    """
    fake_parameters(wrapped, mode)
    model = trace_onnx(wrapped, mode, opset, static)
    expand_sliced_attention(model)
    simplify(model)
    return model, fold_transposes(model)


def count_operators(model: ir.Model) -> dict[str, int]:
    """How many operators of each type a graph has, bodies of loops included, by name."""
    counts = Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in model.graph.all_nodes()
        if node.op_type != "Constant"
    )
    return dict(sorted(counts.items()))


def _count(model: ir.Model, weights: Weights) -> int:
    """Numbers in the weights of the graph; raises `ExportError` where one is not stored."""
    parameters = 0
    lost = []
    for name, value in model.graph.initializers.items():
        if value.const_value is not None:
            continue
        stored = weights.tensors.get(name.removeprefix(PREFIX))
        if stored is None or value.dtype is None or value.shape is None:
            lost.append(name)
            continue
        parameters += int(np.prod(stored.shape))
    if lost:
        raise ExportError(
            f"The graph refers to tensors that the checkpoint does not hold: {listing(lost)}; "
            "please report this model."
        )
    return parameters


def _attach(model: ir.Model, weights: Weights, permutations: Mapping[str, tuple[int, ...]]) -> None:
    """Gives every weight of the graph a tensor that is read when it is written."""
    for name, value in model.graph.initializers.items():
        if value.const_value is None:
            assert value.dtype is not None
            assert value.shape is not None
            stored = weights.tensors[name.removeprefix(PREFIX)]
            read = _Reader(stored, value.dtype, permutations.get(name))
            value.const_value = ir.LazyTensor(read, value.dtype, value.shape, name=name)


@dataclass(frozen=True)
class _Reader:
    """Reads one tensor, converts it, and permutes its axes."""

    stored: ReadableTensor
    dtype: ir.DataType
    axes: tuple[int, ...] | None

    def __call__(self) -> ir.TensorProtocol:
        array = self.stored.read().astype(self.dtype.numpy(), copy=False)
        if self.axes is not None:
            array = np.ascontiguousarray(array.transpose(self.axes))
        return ir.tensor(array, dtype=self.dtype)


def _save(model: ir.Model, folder: Path, progress: Progress | None) -> None:
    tensors = (value.const_value for value in model.graph.initializers.values())
    sizes = [tensor.nbytes for tensor in tensors if tensor is not None]
    total = sum(size for size in sizes if size > _EXTERNAL_BYTES)
    done = 0

    def report(tensor: ir.TensorProtocol, _: object) -> None:
        nonlocal done
        done += tensor.nbytes
        if progress is not None:
            progress(done, total)

    ir.save(
        model,
        folder / MODEL_FILE,
        external_data=DATA_FILE,
        size_threshold_bytes=_EXTERNAL_BYTES,
        callback=report,
    )


def _fixed(port: Port, static: Mapping[str, int]) -> Port:
    """The port with the fixed dimensions filled in."""
    return Port(port.name, port.dtype, tuple(evaluate(size, static) for size in port.shape))


def tensor_specs(ports: tuple[Port, ...]) -> tuple[TensorSpec, ...]:
    """Ports as the manifest records them."""
    names = {torch.float32: "float32", torch.float16: "float16", torch.int64: "int64"}
    return tuple(TensorSpec(port.name, names[port.dtype], port.shape) for port in ports)
