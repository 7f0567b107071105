"""Compiles a diffusers scheduler to a table of numbers (see `core/sampler.py`).

For a fixed number of steps a scheduler is a linear map, so running the real one once on basis
vectors reads its weights off: the initial noise is the first unit vector, every model output one
more, and so is every fresh noise that the scheduler asks for. Another run, on random tensors,
checks that the map is linear at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ..core.errors import SamplerError
from ..core.sampler import Sampler, SamplerTable
from .scheduler_trace import StepsRefusedError, Trace, probe_scheduler, run_scheduler
from .schedulers import SCHEDULERS, fresh_scheduler, load_scheduler, make_scheduler

__all__ = ["SCHEDULERS", "compile_sampler", "compile_table", "load_scheduler", "make_scheduler"]

# Largest deviation of the probe from the table, relative to the sum of the absolute terms: several
# schedulers round the latent to float32 at every step.
TOLERANCE = 1e-5
# Settings that are known to bend the update; any other that is true is tried after them.
_SUSPECTS = ("thresholding", "clip_sample", "clip_denoised")


def compile_sampler(name: str, scheduler: SchedulerMixin, steps: Iterable[int]) -> Sampler:
    """Compiles a scheduler for several numbers of steps.

    Args:
        name: The name that `--scheduler` will take.
        scheduler: Any diffusers scheduler that `StableDiffusionPipeline` can drive; it is not
            changed.
        steps: Numbers of steps, each at least 1. Those that the scheduler cannot run (LCM beyond
            50, for example) are left out of the tables.

    Returns:
        The sampler, its tables in ascending order of steps.

    Raises:
        SamplerError: The scheduler is not linear, draws noise by other means than `randn_tensor`,
            does not fit the pipeline, or can run none of `steps`.
    """
    fresh = fresh_scheduler(scheduler)
    tables: dict[int, SamplerTable] = {}
    refusal = SamplerError(
        f"The scheduler '{name}' was given no number of steps to compile; name at least one."
    )
    for count in sorted(set(steps)):
        try:
            tables[count] = _table(fresh, count)
        except StepsRefusedError as error:
            refusal = error
    if not tables:
        raise refusal
    # The exact contents of scheduler_config.json, without numpy values.
    config = json.loads(scheduler.to_json_string())
    return Sampler(name, type(scheduler).__name__, config, tables)


def compile_table(scheduler: SchedulerMixin, steps: int) -> SamplerTable:
    """Compiles a scheduler for one number of steps.

    Args:
        scheduler: As for `compile_sampler`.
        steps: `num_inference_steps`, at least 1.

    Returns:
        The table; its weights carry the float32 rounding that diffusers' own constants have.

    Raises:
        SamplerError: As for `compile_sampler`.
    """
    return _table(fresh_scheduler(scheduler), steps)


def _table(scheduler: SchedulerMixin, steps: int) -> SamplerTable:
    if steps < 1:
        raise SamplerError(f"A sampler cannot run {steps} steps; ask for at least 1.")
    table, probe = _compile(scheduler, steps)
    if deviation(table, probe) > TOLERANCE:
        raise SamplerError(_explain(scheduler, steps, probe))
    return table


def _compile(scheduler: SchedulerMixin, steps: int) -> tuple[SamplerTable, Trace]:
    """Runs the scheduler on random tensors, which also counts calls and draws, then on a basis."""
    probe = probe_scheduler(scheduler, steps)
    calls, draws = len(probe.outputs), len(probe.noises)
    basis = torch.eye(1 + calls + draws, dtype=torch.float64).view(-1, 1, 1, 1, 1 + calls + draws)
    outputs, noises = iter(basis[1 : 1 + calls]), iter(basis[1 + calls :])
    trace = run_scheduler(
        scheduler, steps, basis[0], lambda _x, _t: next(outputs), lambda: next(noises, basis[0])
    )
    name = type(scheduler).__name__
    if not (is_finite(probe) and is_finite(trace)):
        raise StepsRefusedError(
            f"{name} divides by zero at {steps} steps, so its latents are infinite or NaN; choose "
            "another number of steps or another scheduler."
        )
    if trace.drawn != probe.drawn:
        raise SamplerError(
            f"{name} draws more or less noise depending on the latents, which no table can hold; "
            "choose another scheduler."
        )
    if trace.drawn[0]:
        raise SamplerError(
            f"{name} draws noise before the first model call, which no table can hold; choose "
            "another scheduler."
        )
    return read_table(trace), probe


def is_finite(trace: Trace) -> bool:
    """Whether a run gave neither NaN nor infinite latents or timesteps."""
    return bool(torch.stack(trace.inputs).isfinite().all() and np.isfinite(trace.timesteps).all())


def read_table(trace: Trace) -> SamplerTable:
    """Reads the weights off a run on basis vectors."""
    rows = torch.stack(trace.inputs).double().flatten(1).numpy()
    latents = torch.stack(trace.latents).double().flatten(1).numpy()
    calls = len(trace.outputs)
    largest = np.abs(latents).argmax(axis=1, keepdims=True)
    scale = np.take_along_axis(rows, largest, 1) / np.take_along_axis(latents, largest, 1)
    return SamplerTable(
        timesteps=tuple(trace.timesteps),
        initial=tuple(rows[:, 0].tolist()),
        outputs=tuple(tuple(row[1 : 1 + i].tolist()) for i, row in enumerate(rows)),
        noise=tuple(
            tuple(row[1 + calls : 1 + calls + drawn].tolist())
            for row, drawn in zip(rows, trace.drawn, strict=True)
        ),
        draws=tuple(np.diff(trace.drawn).tolist()),
        scale=tuple(scale[:, 0].tolist()),
    )


def deviation(table: SamplerTable, trace: Trace) -> float:
    """Largest deviation of a run from the table, relative to the sum of the absolute terms."""
    worst = 0.0
    for i, (actual, latent) in enumerate(zip(trace.inputs, trace.latents, strict=True)):
        weights = np.array([table.initial[i], *table.outputs[i], *table.noise[i]])
        terms = [trace.initial, *trace.outputs[:i], *trace.noises[: trace.drawn[i]]]
        vectors = torch.stack(terms).flatten(1).numpy()
        size = (np.abs(weights) @ np.abs(vectors)).max()
        row = actual.double().flatten().numpy()
        scaled = latent.double().flatten().numpy() * table.scale[i]
        worst = max(worst, np.abs(weights @ vectors - row).max() / size)
        worst = max(worst, np.abs(scaled - row).max() / size)
    return float(worst)


def _explain(scheduler: SchedulerMixin, steps: int, probe: Trace) -> str:
    """Finds out why a run does not follow its table, and says what to do."""
    name = type(scheduler).__name__
    if not torch.equal(probe.inputs[-1], probe_scheduler(scheduler, steps).inputs[-1]):
        return (
            f"{name} draws its noise by other means than diffusers' randn_tensor, so it cannot be "
            "compiled to a table; choose another scheduler."
        )
    true = [key for key, value in scheduler.config.items() if value is True]
    suspects = [key for key in _SUSPECTS if key in true]
    others = [key for key in true if key not in suspects]
    for keys in [[key] for key in (*suspects, *others)] + [suspects]:
        if keys and _is_linear(scheduler, steps, keys):
            settings = " and ".join(f"{key}=True" for key in keys)
            return (
                f"{name} with {settings} is not a linear sampler and cannot be compiled to a "
                "table; turn this off in scheduler_config.json if the model works on latents "
                "(Stable Diffusion never clips them), or choose another scheduler."
            )
    return (
        f"{name} is not a linear sampler, whichever of its settings is turned off, and cannot be "
        "compiled to a table; choose another scheduler."
    )


def _is_linear(scheduler: SchedulerMixin, steps: int, off: list[str]) -> bool:
    """Whether the scheduler follows a table once the settings `off` are false."""
    try:
        table, probe = _compile(fresh_scheduler(scheduler, *off), steps)
    except SamplerError:
        return False  # Without this setting it does not even run, so it is not to blame.
    return deviation(table, probe) <= TOLERANCE
