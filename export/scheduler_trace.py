"""Runs a diffusers scheduler as the pipelines do, and records what it did."""

from __future__ import annotations

import copy
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from ..core.errors import SamplerError

# The model under the scheduler: scaled latent and timestep to output, all of one shape.
Model = Callable[[Tensor, float], Tensor]
# Makes a scheduler ready: the timesteps to run, and the latent before the first of them.
Opening = Callable[[SchedulerMixin], tuple[Tensor, Tensor]]

# What diffusers raises where a number of steps does not fit the schedule: ValueError by itself
# (LCM and TCD beyond 50 steps, DDPM beyond 1000, PNDM with Runge-Kutta steps below 4), the other
# two where beta sigmas round two of 50 steps to one timestep and `step` walks off the end.
_REFUSALS = (ValueError, IndexError, AssertionError)

# The probe's latents are this much larger than real ones, so that a clip to [-1, 1], or to a range
# up to a hundred times that, cannot go unnoticed.
AMPLITUDE = 100.0

_PATCHING = threading.Lock()


class StepsRefusedError(SamplerError):
    """The scheduler cannot run with this number of steps, though it may with another."""


@dataclass
class Trace:
    """One run of a scheduler.

    Attributes:
        initial: The initial noise, before `init_noise_sigma`; in image to image, the first latent.
        timesteps: What the pipeline hands to the U-Net at each call.
        latents: The latent before each call, then the final one; `calls + 1` of them.
        inputs: The same after `scale_model_input`; the last is the final latent itself.
        outputs: The model output of each call.
        noises: The fresh noises, in the order drawn.
        drawn: How many noises had been drawn when each of `inputs` was made.
    """

    initial: Tensor = field(default_factory=lambda: torch.zeros(0))
    timesteps: list[float] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    noises: list[Tensor] = field(default_factory=list)
    drawn: list[int] = field(default_factory=list)

    def add_row(self, latent: Tensor, scaled: Tensor) -> None:
        """Records one row; copies, for `step` may write into its arguments."""
        self.latents.append(latent.clone())
        self.inputs.append(scaled.clone())
        self.drawn.append(len(self.noises))


def run_scheduler(
    scheduler: SchedulerMixin,
    steps: int,
    initial: Tensor,
    model: Model,
    noise: Callable[[], Tensor],
) -> Trace:
    """Runs a copy of a scheduler through the loop of the pipeline.

    Args:
        scheduler: A scheduler that has not run yet; it is not changed.
        steps: `num_inference_steps`.
        initial: Initial noise of unit variance, `(1, channels, height, width)`.
        model: Takes the place of the U-Net.
        noise: Takes the place of `randn_tensor`; the shape of `initial`.

    Returns:
        What happened.

    Raises:
        StepsRefusedError: diffusers refuses this number of steps.
        SamplerError: diffusers cannot run the scheduler with its configuration.
    """

    def opening(own: SchedulerMixin) -> tuple[Tensor, Tensor]:
        # The order matters: Euler's init_noise_sigma depends on the timesteps.
        own.set_timesteps(steps, device="cpu")
        return own.timesteps, initial * own.init_noise_sigma

    trace = run_from(scheduler, f"{steps} steps", opening, model, noise)
    trace.initial = initial
    return trace


def run_from(
    scheduler: SchedulerMixin,
    steps: str,
    opening: Opening,
    model: Model,
    noise: Callable[[], Tensor],
) -> Trace:
    """Runs a copy of a scheduler through the loop that all pipelines have.

    `opening` makes the copy ready, and `steps` says in messages what is run; the rest is as for
    `run_scheduler`, but the trace comes back without `initial`.
    """
    name = type(scheduler).__name__
    try:
        return _denoise(copy.deepcopy(scheduler), opening, model, noise)
    except _REFUSALS as error:
        raise StepsRefusedError(
            f"{name} cannot run {steps} ({type(error).__name__}: {error}); choose another "
            "number of steps or another scheduler."
        ) from error
    except (TypeError, RuntimeError) as error:
        raise SamplerError(
            f"{name} cannot run with its configuration ({type(error).__name__}: {error}); correct "
            "scheduler_config.json or choose another scheduler."
        ) from error


def probe_scheduler(scheduler: SchedulerMixin, steps: int) -> Trace:
    """Runs a scheduler on random tensors and a nonlinear model; the same at every call."""
    generator = torch.Generator().manual_seed(steps)

    def noise() -> Tensor:
        shape = (1, 4, 4, 4)
        return AMPLITUDE * torch.randn(shape, generator=generator, dtype=torch.float64)

    def model(x: Tensor, t: float) -> Tensor:
        return AMPLITUDE * torch.sin(x + t) + noise()

    return run_scheduler(scheduler, steps, noise(), model, noise)


def _denoise(
    scheduler: SchedulerMixin, opening: Opening, model: Model, noise: Callable[[], Tensor]
) -> Trace:
    trace = Trace()

    def draw() -> Tensor:
        trace.noises.append(noise())
        return trace.noises[-1].clone()

    # As `prepare_extra_step_kwargs`: only where `step` takes them, and eta 0 as by default (TCD's
    # own default of 0.3 is never used by the pipeline).
    accepted = inspect.signature(scheduler.step).parameters
    pipeline: dict[str, Any] = {"eta": 0.0, "generator": None}
    extra = {key: value for key, value in pipeline.items() if key in accepted}
    with _noise_from(scheduler, draw):
        timesteps, latent = opening(scheduler)
        for t in timesteps:
            scaled = scheduler.scale_model_input(latent, t)
            trace.add_row(latent, scaled)
            trace.timesteps.append(float(t))
            trace.outputs.append(model(scaled, float(t)))
            output = trace.outputs[-1].clone()
            latent = scheduler.step(output, t, latent, **extra, return_dict=False)[0]
    trace.add_row(latent, latent)
    return trace


@contextmanager
def _noise_from(scheduler: SchedulerMixin, draw: Callable[[], Tensor]) -> Iterator[None]:
    """Lets `randn_tensor` in the scheduler's modules return `draw()`, in this thread only."""
    modules = {sys.modules[base.__module__] for base in type(scheduler).__mro__}
    owner = threading.get_ident()
    with _PATCHING:
        originals = {
            module: vars(module)["randn_tensor"]
            for module in modules
            if "randn_tensor" in vars(module)
        }

        def substitute(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def randn_tensor(*args: Any, **kwargs: Any) -> Tensor:
                return draw() if threading.get_ident() == owner else original(*args, **kwargs)

            return randn_tensor

        try:
            for module, original in originals.items():
                vars(module)["randn_tensor"] = substitute(original)
            yield
        finally:
            for module, original in originals.items():
                vars(module)["randn_tensor"] = original
