"""Compiles the runs of image to image: a scheduler entered at every step (see `core`).

The scheduler is run as `StableDiffusionImg2ImgPipeline` runs it: its timesteps are cut, it is told
where it begins, and its own `add_noise` mixes the encoded picture with noise. Both are basis
vectors here, as in `sampler.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from ..core.errors import SamplerError
from ..core.image_sampler import ImageSampler, ImageStart
from ..core.sampler import Sampler, SamplerTable
from .sampler import TOLERANCE, deviation, is_finite, read_table
from .scheduler_trace import AMPLITUDE, Model, StepsRefusedError, Trace, run_from
from .schedulers import fresh_scheduler


def compile_image_sampler(scheduler: SchedulerMixin, sampler: Sampler) -> ImageSampler | None:
    """Compiles every start of a scheduler.

    Args:
        scheduler: What `sampler` was compiled from; it is not changed.
        sampler: The tables of the whole schedules.

    Returns:
        The starts, for the numbers of steps that `sampler` has; None where the scheduler has no
        `add_noise`, so that diffusers cannot do image to image with it either.

    Raises:
        SamplerError: The runs are no linear map, though the whole schedules are.
    """
    if not hasattr(scheduler, "add_noise"):
        return None
    starts = {}
    for steps, full in sampler.tables.items():
        ready = fresh_scheduler(scheduler)
        ready.set_timesteps(steps, device="cpu")
        starts[steps] = tuple(_start(ready, first, full) for first in range(steps))
        _check(ready, steps // 2, full, starts[steps])
    return ImageSampler(sampler.name, starts)


def _start(ready: SchedulerMixin, first: int, full: SamplerTable) -> ImageStart | None:
    """Reads a start off a run on basis vectors; None where diffusers cannot begin there."""
    skipped = first * ready.order
    calls, draws = full.calls - skipped, sum(full.draws[skipped:])
    if calls < 1:
        # The pipeline would have no timestep left.
        return None
    # The noise that is added, the model outputs, the fresh noises, the picture.
    size = 1 + calls + draws + 1
    basis = torch.eye(size, dtype=torch.float64).view(-1, 1, 1, 1, size)
    outputs, noises = iter(basis[1 : 1 + calls]), iter(basis[1 + calls : -1])
    try:
        trace = _run(
            ready,
            first,
            (basis[-1], basis[0]),
            lambda _x, _t: next(outputs),
            lambda: next(noises, basis[0]),
        )
    except StepsRefusedError:
        return None
    if not is_finite(trace):
        return None
    first_latent = trace.latents[0].double().flatten()
    signal, noise = float(first_latent[-1]), float(first_latent[0])
    # Everything later depends on the picture and its noise through the first latent alone.
    column = -1 if abs(signal) > abs(noise) else 0
    weights = torch.stack(trace.inputs).double().flatten(1)[:, column] / first_latent[column]
    table = replace(read_table(trace), initial=tuple(weights.tolist()))
    return ImageStart.of(table, signal, noise, full)


def _check(
    ready: SchedulerMixin, first: int, full: SamplerTable, starts: tuple[ImageStart | None, ...]
) -> None:
    """Holds a start against a run on random tensors and a nonlinear model."""
    start = starts[first]
    if start is None:
        return
    generator = torch.Generator().manual_seed(full.calls)

    def noise() -> Tensor:
        return AMPLITUDE * torch.randn((1, 4, 4, 4), generator=generator, dtype=torch.float64)

    def model(x: Tensor, t: float) -> Tensor:
        return AMPLITUDE * torch.sin(x + t) + noise()

    picture, added = noise(), noise()
    trace = _run(ready, first, (picture, added), model, noise)
    mixed = start.signal * picture + start.noise * added
    size = abs(start.signal) * picture.abs().max() + abs(start.noise) * added.abs().max()
    wrong = float((mixed - trace.initial).abs().max() / size)
    if max(wrong, deviation(start.table(full), trace)) > TOLERANCE:
        raise SamplerError(
            f"{type(ready).__name__} is not a linear sampler when it begins at step {first + 1}, "
            "and cannot be compiled for image to image; choose another scheduler, or export "
            "without --with-encoder."
        )


def _run(
    ready: SchedulerMixin,
    first: int,
    mixed: tuple[Tensor, Tensor],
    model: Model,
    noise: Callable[[], Tensor],
) -> Trace:
    """Runs a scheduler whose timesteps are set from its step `first` on."""

    def opening(own: SchedulerMixin) -> tuple[Tensor, Tensor]:
        skipped = first * own.order
        timesteps = own.timesteps[skipped:]
        if hasattr(own, "set_begin_index"):
            own.set_begin_index(skipped)
        return timesteps, own.add_noise(*mixed, timesteps[:1])

    trace = run_from(ready, f"the steps from {first + 1} on", opening, model, noise)
    trace.initial = trace.latents[0]
    return trace
