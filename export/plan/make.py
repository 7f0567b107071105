"""The plan of an export by any backend, with what stands in its way here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

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


def make_plan(backend: str, checkpoint: Checkpoint, summary: Summary, machine: Machine) -> Plan:
    """Plans a model's export.

    Args:
        backend: A key of `PLANNERS`.
        checkpoint: The model.
        summary: What it consists of, at the size that is planned for.
        machine: Where it would be exported.

    Returns:
        The plan; where the export would be refused, one with that obstacle only.
    """
    try:
        plan = PLANNERS[backend](checkpoint, summary, machine)
    except KdexportError as error:
        command = f"kdexport {backend} {summary.model}"
        return Plan(backend, command, obstacles=(str(error),))
    return replace(plan, obstacles=tuple(_obstacles(plan, summary, machine)))


def _obstacles(plan: Plan, summary: Summary, machine: Machine) -> list[str]:
    """What this machine lacks."""
    found = []
    if plan.disk > machine.free_disk:
        found.append(
            f"It takes up to {plan.disk / 1e9:.1f} GB of disk and {machine.free_disk / 1e9:.1f} GB "
            "are free here; make room, or write to another disk."
        )
    free = machine.free_memory
    if free is None:
        return found
    for stage in plan.stages:
        if stage.peak_rss <= free:
            continue
        instead = "export on a larger machine"
        if stage.name == "comparison":
            smaller = f"{max(summary.multiple, summary.height // 2)} "
            smaller += f"{max(summary.multiple, summary.width // 2)}"
            instead = f"compare at a smaller size (--verify-size {smaller}) or not (--no-verify)"
            if plan.backend == "coreml":
                instead = (
                    f"export for a smaller size (--size {smaller}) or leave it out (--no-verify)"
                )
        found.append(
            f"The {stage.name} takes about {stage.peak_rss / 1e9:.1f} GB of memory and "
            f"{free / 1e9:.1f} GB are free here; close other programs, or {instead}."
        )
    return found
