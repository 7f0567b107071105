"""From a wrapped component to an ONNX graph without weights."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping

import onnx_ir as ir
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ..core.dimensions import evaluate, split_size
from ..core.errors import ExportError
from .lower import lower
from .upsampling import drop_branches
from .wrap import Port, Wrapped

# Example sizes, in multiples of what the component allows: unequal, not square, above 1.
_EXAMPLES = {"batch": 2, "height": 8, "width": 6}


def trace_onnx(
    wrapped: Wrapped, mode: FakeTensorMode, opset: int, static: Mapping[str, int]
) -> ir.Model:
    """Traces a component whose parameters are fake tensors of `mode`.

    Args:
        wrapped: The component.
        mode: The fake mode that owns its parameters.
        opset: ONNX opset of the graph.
        static: Value of each dynamic dimension that is to be fixed, by name.

    Returns:
        The raw graph; its weights are initializers named `inner.…` that hold no value.

    Raises:
        ExportError: The tracer cannot follow the module.
    """
    with mode:
        examples = tuple(_example(port, wrapped.multiple, static) for port in wrapped.inputs)
    drop_branches(wrapped)
    shapes = _dynamic_shapes(wrapped, static)
    try:
        with _quiet(), torch.no_grad(), mode:
            # `forward` takes *inputs, hence the extra level.
            program = torch.export.export(wrapped, examples, dynamic_shapes=(shapes,))
        lower(program)
        with _quiet():
            exported = torch.onnx.export(
                program, dynamo=True, opset_version=opset, optimize=False, verbose=False
            )
    except (torch._dynamo.exc.UserError, torch.onnx.errors.OnnxExporterError) as error:
        raise ExportError(
            f"The tracer cannot follow {type(wrapped.inner).__name__} ({str(error)[:300]}); please "
            "report this model."
        ) from error
    assert exported is not None
    model = exported.model
    for initializer in model.graph.initializers.values():
        if _is_fake(initializer):
            initializer.const_value = None
    return model


def _dynamic_shapes(
    wrapped: Wrapped, static: Mapping[str, int]
) -> tuple[dict[int, torch.export.Dim], ...]:
    """The symbolic dimension of each dynamic axis, an item per input.

    Height and width are multiples of what the component allows, so that a size computed with one
    of them (`height // 2`) is a multiple of the same symbol.
    """
    roots = {
        "batch": torch.export.Dim("batch"),
        "height": torch.export.Dim("_height"),
        "width": torch.export.Dim("_width"),
    }
    units = {"height": wrapped.multiple, "width": wrapped.multiple}

    def symbol(size: int | str) -> torch.export.Dim | None:
        if isinstance(size, int):
            return None
        name, factor, divisor = split_size(size)
        if name in static:
            return None
        return factor * units[name] // divisor * roots[name] if name in units else roots[name]

    return tuple(
        {axis: dim for axis, size in enumerate(port.shape) if (dim := symbol(size)) is not None}
        for port in wrapped.inputs
    )


def _example(port: Port, multiple: int, static: Mapping[str, int]) -> torch.Tensor:
    units = {"batch": 1, "height": multiple, "width": multiple}
    values = {name: size * units[name] for name, size in _EXAMPLES.items()} | dict(static)
    return torch.zeros([int(evaluate(size, values)) for size in port.shape], dtype=port.dtype)


def _is_fake(value: ir.Value) -> bool:
    raw = getattr(value.const_value, "raw", None)
    return isinstance(raw, torch._subclasses.FakeTensor) or (
        isinstance(raw, torch.nn.Parameter) and isinstance(raw.data, torch._subclasses.FakeTensor)
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's notes about torchvision, tree specs and missing metadata."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    previous = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(previous)
