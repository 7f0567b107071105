"""Values that stop being finite: found where it happens, with the operation and its layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.errors import RunError
from .precision import LARGEST, OVERFLOW
from .protocols import Operation, Value


@dataclass(frozen=True)
class Overflow:
    """An operation whose result is not finite although what it was given is.

    Attributes:
        op_type: MIL's type of the operation.
        name: Name of the operation, made of the path of its layer.
        magnitude: The largest finite magnitude of the result before it was rounded.
        kind: "overflow" where float16 cannot hold the result, "input" where float16 cannot hold
            what the operation reads, "infinite" or "nan" where float32 gives no number either.
    """

    op_type: str
    name: str
    magnitude: float
    kind: str

    def __str__(self) -> str:
        what = {
            "overflow": f"gives values up to {self.magnitude:.4g}, and float16 ends at {LARGEST:g}",
            "input": f"reads values up to {self.magnitude:.4g}, and float16 ends at {LARGEST:g}",
            "infinite": f"gives infinite values beside values up to {self.magnitude:.4g}",
            "nan": f"gives NaN beside values up to {self.magnitude:.4g}",
        }
        return f"The operation '{self.op_type}' ('{self.name}') {what[self.kind]}"


class OverflowRunError(RunError):
    """A program met an `Overflow`, kept as `overflow`."""

    def __init__(self, overflow: Overflow) -> None:
        super().__init__(f"{overflow}; keep this operation in float32.")
        self.overflow = overflow


def find_overflow(
    operation: Operation, inputs: Iterable[Value], results: Iterable[Tensor], narrow: bool
) -> Overflow | None:
    """Looks at the results of an operation before they are rounded.

    Args:
        operation: What was computed.
        inputs: What it read.
        results: What it gave, in float32.
        narrow: Whether the results will be rounded to float16.
    """
    limit = OVERFLOW if narrow else float("inf")
    for result in results:
        peak = _peak(result)
        if peak < limit:  # false for NaN too
            continue
        given = [_peak(tensor) for value in inputs for tensor in members(value)]
        if peak != peak:
            if any(each != each for each in given):
                return None
            return _describe(operation, result, "nan")
        if not all(each < float("inf") for each in given):
            return None
        return _describe(operation, result, "overflow" if peak < float("inf") else "infinite")
    return None


def find_input_overflow(operation: Operation, values: Tensor) -> Overflow | None:
    """Looks at a finite float32 that an operation will read as float16."""
    peak = _peak(values)
    if OVERFLOW <= peak < float("inf"):
        return Overflow(operation.op_type, operation.name, peak, "input")
    return None


def members(value: Value) -> tuple[Tensor, ...]:
    """The tensors of what an operation reads for one parameter."""
    if isinstance(value, str):
        return ()
    return value if isinstance(value, tuple) else (value,)


def _peak(tensor: Tensor) -> float:
    """The largest magnitude; NaN where there is one, 0 for what has no fractions."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return 0.0
    low, high = torch.aminmax(tensor)
    return max(-float(low), float(high)) if low == low else float("nan")


def _describe(operation: Operation, result: Tensor, kind: str) -> Overflow:
    finite = result[result.isfinite()]
    return Overflow(operation.op_type, operation.name, _peak(finite), kind)
