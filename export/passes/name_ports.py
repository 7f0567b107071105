"""Gives the graph the input, output and dimension names of the contract."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ...core.errors import ExportError
from ..wrap import Port


def name_ports(model: ir.Model, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Renames the graph's inputs and outputs and their dynamic dimensions, in place.

    Raises:
        ExportError: The graph has another number of inputs or outputs, or another dtype or size
            than the contract says: the trace specialised something that it must not.
    """
    _rename(model.graph.inputs, inputs, "input")
    _rename(model.graph.outputs, outputs, "output")


def _rename(values: Sequence[ir.Value], ports: Sequence[Port], what: str) -> None:
    if len(values) != len(ports):
        raise ExportError(
            f"The traced graph has {len(values)} {what}s instead of {len(ports)}; please report "
            "this model."
        )
    for value, port in zip(values, ports, strict=True):
        traced = tuple(value.shape) if value.shape is not None else ()
        fits = len(traced) == len(port.shape) and all(
            isinstance(size, ir.SymbolicDim) if isinstance(want, str) else size == want
            for size, want in zip(traced, port.shape, strict=True)
        )
        if not fits:
            raise ExportError(
                f"The {what} '{port.name}' was traced with the shape {list(traced)} instead of "
                f"{list(port.shape)}; please report this model."
            )
        value.name = port.name
        value.shape = ir.Shape(port.shape)
