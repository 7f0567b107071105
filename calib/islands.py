"""Which operations of a Core ML program must stay in float32, found by running it.

A program is run in float32 on recorded inputs. Beside every operation, the same operation is
computed once more on float16 inputs, its result rounded too: where that is far off, or infinite,
the operation is kept in float32, and with it what computes its inputs, where rounding these is
what hurts. The program as it will be written is then run and held against float32.
"""

from __future__ import annotations

import math
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
from ..runtimes.mil.precision import OVERFLOW, Float32, Simulated, narrowed
from ..runtimes.mil.protocols import Function, Operation, Value

Arrays = Mapping[str, NDArray[Any]]

# Relative errors of single operations above which they are kept in float32; where the first ones
# leave the program too far off, the next are tried. Rounding alone is off by 3e-4.
_LIMITS = (1e-2, 4e-3, 1.5e-3)
# An operation that errs by more than this on rounded inputs amplifies their error.
_AMPLIFIES = 2e-3
# These accumulate in float32, so rounding what goes in is harmless.
_PRODUCTS = {"conv", "conv_transpose", "einsum", "linear", "matmul", "scaled_dot_product_attention"}
# Numbers of a result that errors are measured on.
_SAMPLES = 1 << 18
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
        finding.peak = max(finding.peak, *map(_peak, floats))
        if math.isinf(finding.peak):
            return  # float32 gives no number either
        exact = [_sample(each) for each in floats]
        rounded = [narrowed(each) for each in exact]
        finding.exact &= all(map(torch.equal, rounded, exact))
        if not self.narrows(operation):
            return
        alone = math.inf if finding.peak >= OVERFLOW else _error(rounded, exact)
        error = alone
        if operation.op_type not in MOVES | _PRODUCTS:
            given = {name: _narrowed(value) for name, value in inputs.items()}
            computed = evaluate_operation(operation, given)
            if max(map(_peak, computed)) < OVERFLOW:
                error = max(alone, _error([narrowed(_sample(each)) for each in computed], exact))
            else:
                error = math.inf
        if error > finding.error:
            finding.error, finding.at_fault = error, error > 2 * alone


def at_last_timestep(feeds: Sequence[Arrays], last: int) -> list[Arrays]:
    """Recorded inputs of which one is at the schedule's last timestep, where sinusoids lose most.

    A run of few steps need not come near it: one of one step may be told timestep 1 only.

    Args:
        feeds: Recorded inputs in the order of the calls, those of the first step first.
        last: The largest timestep that the model was trained at.

    Returns:
        The inputs, the first of them told another timestep; those without one as they are.
    """
    first, *others = feeds
    if float(first.get("timestep", last)) >= last:
        return [first, *others]
    moved = {**first, "timestep": np.array(last, first["timestep"].dtype)}
    return [moved, *(others or [first])]


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
    findings = _Findings(Simulated(lambda _: True).narrows)
    exact = []
    for index, call in enumerate(calls):
        # Timesteps at both ends: what overflows between them is found below.
        observer = findings if index in (0, len(calls) - 1) else None
        exact.append(Evaluator(function, Float32(), observer=observer).run(call))
        report((index + 1) / len(calls) / 2)
    wanted = gates_for("fp16").component_psnr_db or 0.0
    islands: dict[str, str] = {}
    worst = -math.inf
    for attempt, limit in enumerate(_LIMITS, start=1):
        islands |= _above(limit, function, findings.by_name)
        worst, overflows = _simulate(function, islands, calls, exact)
        while overflows:
            islands |= overflows
            worst, overflows = _simulate(function, islands, calls, exact)
        report(0.5 + attempt / len(_LIMITS) / 2)
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
        if math.isinf(finding.error):
            islands[operation.name] = _overflow_reason(finding.peak)
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


def _simulate(
    function: Function,
    islands: Mapping[str, str],
    calls: Sequence[Arrays],
    exact: Sequence[Arrays],
) -> tuple[float, dict[str, str]]:
    """Runs the program as it will be written.

    Returns:
        The lowest PSNR of any output, in dB, and the operations that overflowed, with the reason.
    """
    precision = Simulated(lambda operation: operation.name not in islands)
    lowest, overflows = math.inf, dict[str, str]()

    def note(overflow: Overflow) -> None:
        if overflow.name not in islands:
            overflows[overflow.name] = _overflow_reason(overflow.magnitude)

    for call, expected in zip(calls, exact, strict=True):
        results = Evaluator(function, precision, on_overflow=note).run(call)
        for name, array in expected.items():
            difference = compare(results[name], array)
            lowest = min(lowest, difference.psnr_db if difference.finite else -math.inf)
    return lowest, overflows


def _overflow_reason(magnitude: float) -> str:
    return f"values up to {magnitude:.4g} overflow float16"


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


def _peak(tensor: Tensor) -> float:
    """The largest magnitude; infinite where a number is none."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return 0.0
    low, high = torch.aminmax(tensor)
    peak = max(-float(low), float(high))
    return peak if low == low else math.inf


def _sample(tensor: Tensor) -> Tensor:
    """Some of the numbers of a large tensor, evenly spread: enough for the size of an error."""
    flat = tensor.reshape(-1)
    # Odd, so that the sample does not follow a row or a channel.
    return flat[:: 2 * (flat.numel() // _SAMPLES // 2) + 1]


def _error(results: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest relative L2 error."""
    worst = 0.0
    for result, wanted in zip(results, expected, strict=True):
        norm = float(wanted.norm())
        if norm > 0:
            worst = max(worst, float((result - wanted).norm()) / norm)
    return worst
