"""Which operations of a Core ML program must stay in float32, found by running it.

A program is run in float32 on recorded inputs. Beside every operation, the same operation is
computed once more on float16 inputs, its result rounded too: where that is far off, or infinite,
the operation is kept in float32, and with it what computes its inputs, where rounding these is
what hurts. The program as it will be written is then run and held against float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.compare import compare, gates_for
from ..core.errors import ParityError
from ..core.manifest import Component
from ..runtimes.coreml_component import package_feeds
from ..runtimes.mil.evaluate import Evaluator
from ..runtimes.mil.operations import MOVES, evaluate_operation
from ..runtimes.mil.overflow import Overflow
from ..runtimes.mil.precision import Float32, Simulated, narrowed
from ..runtimes.mil.protocols import Function, Operation, Value

Arrays = Mapping[str, NDArray[Any]]

# Relative errors of single operations above which they are kept in float32; where the first ones
# leave the program too far off, the next are tried. Rounding alone is off by 3e-4.
_LIMITS = (1e-2, 4e-3, 1.5e-3)
# An operation that errs by more than this on rounded inputs amplifies their error.
_AMPLIFIES = 2e-3
# These accumulate in float32, so rounding what goes in is harmless.
_PRODUCTS = {"conv", "conv_transpose", "einsum", "linear", "matmul", "scaled_dot_product_attention"}
# Above the gate, for what other inputs may bring.
_MARGIN_DB = 2.0


@dataclass
class _Finding:
    """What float16 does to one operation, at its worst input.

    Attributes:
        error: Relative L2 error of the result; infinite where it overflows.
        peak: Largest magnitude of the float32 result.
        exact: Whether rounding the result changes nothing.
        at_fault: Whether its inputs are what must not be rounded.
    """

    error: float = 0.0
    peak: float = 0.0
    exact: bool = True
    at_fault: bool = False


@dataclass
class _Findings:
    """An observer of an evaluator that runs in float32."""

    narrows: Callable[[Operation], bool]
    by_name: dict[str, _Finding] = field(default_factory=dict)

    def __call__(
        self, operation: Operation, inputs: Mapping[str, Value], results: tuple[Tensor, ...]
    ) -> None:
        floats = [each for each in results if each.is_floating_point()]
        if not floats:
            return
        finding = self.by_name.setdefault(operation.name, _Finding())
        finding.peak = max(finding.peak, *(float(each.abs().max()) for each in floats))
        rounded = [narrowed(each) for each in floats]
        finding.exact &= all(map(torch.equal, rounded, floats))
        if not self.narrows(operation):
            return
        alone = _error(rounded, floats)
        error = alone
        if operation.op_type not in MOVES | _PRODUCTS:
            given = {name: _narrowed(value) for name, value in inputs.items()}
            computed = [narrowed(each) for each in evaluate_operation(operation, given)]
            error = max(alone, _error(computed, floats))
        if error > finding.error:
            finding.error, finding.at_fault = error, error > 2 * alone


def find_islands(
    program: Any, component: Component, feeds: Sequence[Arrays], report: Callable[[float], None]
) -> dict[str, str]:
    """Finds the operations that must stay in float32, by name, each with the reason in words.

    Args:
        program: A float32 MIL program with one function.
        component: What it computes, as the manifest has it.
        feeds: Recorded inputs, as the loop has them.
        report: Told how far it is, 0 to 1.

    Raises:
        ParityError: With all these in float32 the outputs still miss the gate of float16.
    """
    (function,) = program.functions.values()
    calls = [call for feed in feeds for call in package_feeds(component, feed)]
    total = len(calls) * (1 + len(_LIMITS))
    findings = _Findings(Simulated(lambda _: True).narrows)
    exact = []
    for index, call in enumerate(calls):
        exact.append(Evaluator(function, Float32(), observer=findings).run(call))
        report((index + 1) / total)
    wanted = gates_for("fp16").component_psnr_db or 0.0
    islands: dict[str, str] = {}
    worst = -np.inf
    for round_, limit in enumerate(_LIMITS, start=1):
        islands = _above(limit, function, findings.by_name)
        worst = _worst(function, islands, calls, exact)
        report((round_ + 1) / (1 + len(_LIMITS)))
        if worst >= wanted + _MARGIN_DB:
            break
    if not worst >= wanted:
        raise ParityError(_failure(component, islands, findings.by_name, worst, wanted))
    report(1.0)
    return islands


def _above(limit: float, function: Function, findings: Mapping[str, _Finding]) -> dict[str, str]:
    """The operations that err by more than `limit`, and those whose results they need exactly."""
    islands: dict[str, str] = {}
    for operation in function.operations:
        finding = findings.get(operation.name)
        if finding is None or not finding.error > limit:
            continue
        if np.isinf(finding.error):
            islands[operation.name] = f"values up to {finding.peak:.4g} overflow float16"
        else:
            islands[operation.name] = f"float16 is off by {100 * finding.error:.2g} %"
        if finding.at_fault:
            _add_sources(operation, findings, islands, operation.name)
    return islands


def _add_sources(
    operation: Operation,
    findings: Mapping[str, _Finding],
    islands: dict[str, str],
    consumer: str,
) -> None:
    """Adds what computes the inputs of an operation, as far up as precision is lost."""
    for given in operation.inputs.values():
        for variable in given if isinstance(given, list | tuple) else [given]:
            source = variable.op
            finding = findings.get(source.name) if source is not None else None
            if source is None or finding is None or finding.exact or source.name in islands:
                continue
            islands[source.name] = f"'{consumer}' needs it in float32"
            if source.op_type in MOVES or finding.error > _AMPLIFIES:
                _add_sources(source, findings, islands, consumer)


def _worst(
    function: Function,
    islands: Mapping[str, str],
    calls: Sequence[Arrays],
    exact: Sequence[Arrays],
) -> float:
    """The lowest PSNR of any output, in dB; minus infinity where one is not finite."""
    precision = Simulated(lambda operation: operation.name not in islands)
    lowest = np.inf
    for call, expected in zip(calls, exact, strict=True):
        overflows: list[Overflow] = []
        results = Evaluator(function, precision, on_overflow=overflows.append).run(call)
        for name, array in expected.items():
            difference = compare(results[name], array)
            lowest = min(lowest, difference.psnr_db if difference.finite else -np.inf)
    return float(lowest)


def _failure(
    component: Component,
    islands: Mapping[str, str],
    findings: Mapping[str, _Finding],
    worst: float,
    wanted: float,
) -> str:
    named = sorted(findings, key=lambda name: findings[name].error, reverse=True)[:3]
    layers = ", ".join(f"'{name}' ({islands.get(name, 'rounding')})" for name in named)
    return (
        f"The component '{component.role}' cannot be float16: with {len(islands)} operations in "
        f"float32 its output has a PSNR of {worst:.1f} dB, needed {wanted:g}; the worst layers are "
        f"{layers}. Export with --precision fp32."
    )


def _narrowed(value: Value) -> Value:
    if isinstance(value, tuple):
        return tuple(narrowed(each) if each.is_floating_point() else each for each in value)
    if isinstance(value, Tensor) and value.is_floating_point():
        return narrowed(value)
    return value


def _error(results: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest relative L2 error; infinite where a finite value became none."""
    worst = 0.0
    for result, wanted in zip(results, expected, strict=True):
        if not bool(result.isfinite().all()):
            if bool(wanted.isfinite().all()):
                return float("inf")
            continue
        norm = float(wanted.norm())
        if norm > 0:
            worst = max(worst, float((result - wanted).norm()) / norm)
    return worst
