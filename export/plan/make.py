"""The plan of an export by any backend, with what stands in its way here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from shlex import quote

from ...core.checkpoint import Checkpoint
from ...core.errors import KdexportError
from ..summary import Summary
from .coreml import plan_coreml
from .onnx import plan_onnx
from .tensorrt import plan_tensorrt
from .types import Machine, Plan

PLANNERS: Mapping[str, Callable[[Checkpoint, Summary, Machine], Plan]] = {
    "onnx": plan_onnx,
    "coreml": plan_coreml,
    "tensorrt": plan_tensorrt,
}


def make_plan(
    backend: str, checkpoint: Checkpoint, summary: Summary, machine: Machine, given: Sequence[str]
) -> Plan:
    """Plans a model's export.

    Args:
        backend: A key of `PLANNERS`.
        checkpoint: The model.
        summary: What it consists of, at the size that is planned for.
        machine: Where it would be exported.
        given: The options of the command that say what the model is.

    Returns:
        The plan; where the export would be refused, one with that obstacle only.
    """
    try:
        plan = PLANNERS[backend](checkpoint, summary, machine)
    except KdexportError as error:
        plan = Plan(backend, f"kdexport {backend} {quote(summary.model)}", obstacles=(str(error),))
    else:
        plan = replace(plan, obstacles=_obstacles(plan, machine))
        plan = replace(plan, doubts=tuple(_doubts(plan, summary, machine)))
    return replace(plan, command=" ".join([plan.command, *map(quote, given)]))


def _obstacles(plan: Plan, machine: Machine) -> tuple[str, ...]:
    """What this machine certainly lacks."""
    if plan.disk <= machine.free_disk:
        return ()
    return (
        f"It takes up to {plan.disk / 1e9:.1f} GB of disk and {machine.free_disk / 1e9:.1f} GB "
        "are free here; make room, or write to another disk.",
    )


def _doubts(plan: Plan, summary: Summary, machine: Machine) -> Iterator[str]:
    """What this machine may lack."""
    free = machine.free_memory
    for stage in plan.stages:
        if free is None or stage.peak_rss <= free:
            continue
        instead = "export on a larger machine"
        if stage.name == "comparison":
            instead = _smaller_comparison(plan, summary)
        yield (
            f"The {stage.name} takes about {stage.peak_rss / 1e9:.1f} GB of memory and "
            f"{free / 1e9:.1f} GB are free here; close other programs, or {instead}."
        )


def _smaller_comparison(plan: Plan, summary: Summary) -> str:
    """What to tell the command, so that its comparison takes less memory."""
    height, width = (half_size(each, summary.multiple) for each in (summary.height, summary.width))
    if (height, width) == (summary.height, summary.width):
        return "leave it out (--no-verify)"
    smaller = {
        "onnx": f"compare at a smaller size (--verify-size {height} {width})",
        "coreml": f"export for a smaller size (--size {height} {width})",
        "tensorrt": f"export for a smaller size (--profile height={height} --profile "
        f"width={width})",
    }
    return f"{smaller[plan.backend]} or leave it out (--no-verify)"


def half_size(length: int, multiple: int) -> int:
    """About half of a length in pixels that a model takes, which takes multiples only."""
    return max(multiple, length // 2 // multiple * multiple)
