"""Runs of diffusers' schedulers on known tensors, and the tables that an export compiles of them.

In place of the model stands a list of tensors, one for each call; the noise is torch's, of a seed.
Written are the inputs of all calls and the final latents, as diffusers computes them in float32;
and the same as kdexport's own runtime has them, which the Swift package repeats bit for bit.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from kdexport.core.image_sampler import ImageSampler
from kdexport.core.sampler import SamplerTable
from kdexport.runtimes.sampler import Stepper
from kdexport.runtimes.start import skipped_steps
from numpy.typing import NDArray
from torch import Tensor

from .files import Pool, write_json
from .schedules import schedulers
from .tables import STEPS, Compiled, compile_tables

Array = NDArray[np.float32]

SHAPE = (2, 4, 5, 3)
STRENGTHS = (1.0, 0.8, 0.5, 0.3)
SEED = 2**33 + 7
_MOST = 110  # calls of a run, and noises


@dataclass(frozen=True)
class Known:
    """The tensors of all runs.

    Attributes:
        outputs: What the model gives, call by call.
        draws: What a generator with `SEED` draws, one after the other.
        picture: The encoded picture of image to image.
    """

    outputs: list[Tensor]
    draws: list[Tensor]
    picture: Tensor


@dataclass(frozen=True)
class Reference:
    """A run of diffusers.

    Attributes:
        arrays: The inputs of all calls, and the final latents.
        largest: The largest absolute value that a latent had, before it was scaled for the model:
            float32 rounds in each step to parts of that.
    """

    arrays: list[Array]
    largest: float


def write_runs(out: Path) -> int:
    """Writes `runs.json` and the tables; returns the number of runs."""
    pool, known, cases = Pool("<f4"), known_tensors(), []
    for name, scheduler in schedulers().items():
        compiled = compile_tables(scheduler, out / "samplers" / name)
        cases += [{"name": name, **case} for case in _cases(compiled, known, pool)]
    data = {
        "outputs": pool.add(torch.stack(known.outputs).numpy()),
        "draws": pool.add(torch.stack(known.draws).numpy()),
        "picture": pool.add(known.picture.numpy()),
        "runs": cases,
    }
    pool.write(out / "runs.f32")
    write_json(out / "runs.json", data)
    return len(cases)


def known_tensors() -> Known:
    """Makes the tensors."""
    generator = torch.Generator().manual_seed(3)
    outputs = [torch.randn(SHAPE, generator=generator) for _ in range(_MOST)]
    picture = 2 * torch.randn(SHAPE, generator=generator)
    generator = torch.Generator().manual_seed(SEED)
    return Known(outputs, [torch.randn(SHAPE, generator=generator) for _ in range(_MOST)], picture)


def _cases(compiled: Compiled, known: Known, pool: Pool) -> Iterator[dict[str, Any]]:
    for steps in (each for each in STEPS if each in compiled.sampler.tables):
        scheduler = _ready(compiled.scheduler, steps)
        latent = known.draws[0] * scheduler.init_noise_sigma
        theirs = run_diffusers(scheduler, scheduler.timesteps, latent, known)
        stepper = _stepper(compiled.sampler.table(steps), known.draws[0].numpy(), known)
        yield {"steps": steps, "first": None, **_walk(pool, theirs, stepper, known)}
    if compiled.starts is None:
        return
    for steps in compiled.starts.starts:
        for first in sorted({skipped_steps(s, steps) for s in STRENGTHS if int(steps * s) >= 1}):
            if compiled.starts.starts[steps][first] is not None:
                yield _image_case(compiled, compiled.starts, known, pool, (steps, first))


def _image_case(
    compiled: Compiled, starts: ImageSampler, known: Known, pool: Pool, place: tuple[int, int]
) -> dict[str, Any]:
    steps, first = place
    scheduler = _ready(compiled.scheduler, steps)
    pipeline: Any = SimpleNamespace(scheduler=scheduler)
    strength = (steps - first) / steps
    timesteps, _ = StableDiffusionImg2ImgPipeline.get_timesteps(pipeline, steps, strength, "cpu")
    noised = scheduler.add_noise(
        known.picture, known.draws[0], timesteps[:1].repeat(len(known.picture))
    )
    theirs = run_diffusers(scheduler, timesteps, noised, known)
    start = starts.start(steps, first)
    latent = start.first_latent(known.picture.numpy(), known.draws[0].numpy())
    stepper = _stepper(start.table(compiled.sampler.table(steps)), latent, known)
    return {"steps": steps, "first": first, **_walk(pool, theirs, stepper, known)}


def _ready(scheduler: Any, steps: int) -> Any:
    """A copy that has not run yet, set to a number of steps."""
    own = type(scheduler).from_config(scheduler.config)
    own.set_timesteps(steps, device="cpu")
    return own


def run_diffusers(scheduler: Any, timesteps: Tensor, latent: Tensor, known: Known) -> Reference:
    """The denoising loop of diffusers' pipelines in float32."""
    generator = torch.Generator().manual_seed(SEED)
    torch.randn(SHAPE, generator=generator)  # The initial noise.
    accepted = inspect.signature(scheduler.step).parameters
    offered = {"eta": 0.0, "generator": generator}
    extra = {key: value for key, value in offered.items() if key in accepted}
    arrays, largest = [], float(latent.abs().max())
    for call, t in enumerate(timesteps):
        arrays.append(scheduler.scale_model_input(latent, t).numpy().copy())
        output = known.outputs[call].clone()
        latent = scheduler.step(output, t, latent, **extra, return_dict=False)[0]
        largest = max(largest, float(latent.abs().max()))
    return Reference([*arrays, latent.numpy().copy()], largest)


def _stepper(table: SamplerTable, initial: Array, known: Known) -> Stepper:
    draws = iter(known.draws[1:])

    def noise() -> Array:
        array: Array = next(draws).numpy()
        return array

    return Stepper(table, initial, noise)


def _walk(pool: Pool, theirs: Reference, stepper: Stepper, known: Known) -> dict[str, Any]:
    """Both runs, the stepper's with the latents after each call."""
    inputs, latents = [], []
    while not stepper.done:
        inputs.append(stepper.input())
        stepper.push(known.outputs[stepper.calls].numpy())
        latents.append(stepper.latent())
    return {
        "timesteps": list(stepper.table.timesteps),
        "largest": theirs.largest,
        "diffusers": pool.add(np.stack(theirs.arrays)),
        "inputs": pool.add(np.stack(inputs)),
        "latents": pool.add(np.stack(latents)),
    }
