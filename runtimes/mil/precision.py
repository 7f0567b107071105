"""Where a program's values are rounded to float16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .operations import version
from .protocols import Operation, Variable
from .values import constant, type_name

# The largest float16, and the smallest magnitude that is rounded to infinity.
LARGEST = 65504.0
OVERFLOW = 65520.0
_SMALLEST = 2.0**-24

# What coremltools' float16 pass leaves alone (its FP16ComputePrecision): operations, and, since
# iOS 17 allows it, parameters that lose too much.
_UNCONVERTED = {"cast", "cond", "while_loop"}
_MIXED = {
    "alpha": {
        "clamped_relu", "elu", "leaky_relu", "linear_activation", "prelu", "scaled_tanh",
        "sigmoid_hard", "softplus_parametric", "thresholded_relu",
    },
    "beta": {
        "clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard", "softplus_parametric",
    },
    "epsilon": {"inverse", "log", "rsqrt"},
}  # fmt: skip


class Precision(Protocol):
    """Which values are rounded."""

    @property
    def checks(self) -> bool:
        """Whether values that stop being finite are reported."""

    def narrows(self, operation: Operation) -> bool:
        """Whether the results of the operation are float16."""

    def narrows_input(self, operation: Operation, parameter: str, variable: Variable) -> bool:
        """Whether the operation, being one of float16, reads this as float16."""


@dataclass(frozen=True)
class AsWritten:
    """What the program declares to be float16 is rounded to it."""

    checks: bool = True

    def narrows(self, operation: Operation) -> bool:
        """Whether the results are declared as float16."""
        return any(type_name(variable) == "fp16" for variable in operation.outputs)

    def narrows_input(self, operation: Operation, parameter: str, variable: Variable) -> bool:
        """Never: what is written as float16 has been rounded, and the rest may be mixed."""
        return False


@dataclass(frozen=True)
class Float32:
    """Nothing is rounded, whatever the program declares."""

    checks: bool = False

    def narrows(self, operation: Operation) -> bool:
        """Never."""
        return False

    def narrows_input(self, operation: Operation, parameter: str, variable: Variable) -> bool:
        """Never."""
        return False


@dataclass(frozen=True)
class Simulated:
    """A float32 program as if some of its operations were converted to float16.

    This follows coremltools' `FP16ComputePrecision(op_selector=rounds)`: such an operation also
    reads its inputs and weights as float16, some operations are never converted, and constants
    that would vanish become the smallest float16.

    Attributes:
        rounds: Whether an operation is to be float16.
    """

    rounds: Callable[[Operation], bool]
    checks: bool = True

    def narrows(self, operation: Operation) -> bool:
        """Whether coremltools would convert the operation."""
        if operation.op_type in _UNCONVERTED or not self.rounds(operation):
            return False
        return not _has_large_constant(operation)

    def narrows_input(self, operation: Operation, parameter: str, variable: Variable) -> bool:
        """Whether the input is a float32 that coremltools would cast."""
        mixed = operation.op_type in _MIXED.get(parameter, ())
        if type_name(variable) != "fp32" or (mixed and version(operation) != "iOS15"):
            return False
        return "fp16" in _accepted(operation, parameter)


def _accepted(operation: Operation, parameter: str) -> set[str]:
    from coremltools.converters.mil.mil import types

    kinds = operation.input_spec.input_types  # type: ignore[attr-defined]
    domain = getattr(kinds[parameter], "type_domain", ())
    return {str(types.builtin_to_string(kind)) for kind in domain} or {"fp16"}


def _has_large_constant(operation: Operation) -> bool:
    """Whether a constant is beyond float16 but no stand-in for infinity."""
    for given in operation.inputs.values():
        for variable in given if isinstance(given, (list, tuple)) else [given]:
            if variable.op is None or variable.op.op_type != "const":
                continue
            if type_name(variable) != "fp32":
                continue
            size = torch.as_tensor(constant(variable)).abs()
            if bool(((size > LARGEST) & (size < 1e38)).any()):
                return True
    return False


def narrowed(values: Tensor, owned: bool = False) -> Tensor:
    """Rounds float32 values to those that float16 has.

    Args:
        values: float32, any shape.
        owned: Whether `values` may be overwritten.
    """
    if not owned or not values.is_contiguous():
        return values.half().float()
    for part in torch.split(values.view(-1), 1 << 22):
        part.copy_(part.half())
    return values


def narrowed_constant(values: Tensor) -> Tensor:
    """Rounds a constant as coremltools does: small ones of few elements never become zero."""
    half = narrowed(values)
    if values.numel() >= 400:
        return half
    vanished = (half.abs() <= _SMALLEST) & (values != 0)
    return torch.where(vanished, torch.copysign(torch.tensor(_SMALLEST), values), half)
