"""The denoising loop: the U-Net, guidance, and the rows of a compiled sampler."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.sampler import SamplerTable
from .base import Runner
from .components import call, require_finite
from .conditioning import Conditioning
from .control import ControlNet
from .image_start import EncodedPicture
from .noise import TorchNoise
from .plan import Plan
from .sampler import Stepper


@dataclass(frozen=True, eq=False)
class Step:
    """One model call and the latents after it; the last step carries the final latents.

    Attributes:
        index: Number of the call, from 0.
        total: Number of calls, which can differ from the steps asked for.
        timestep: What the U-Net was told.
        sample: The latents that the U-Net was fed, `(images, channels, height, width)`, float32,
            scaled as the scheduler scales them; with guidance each row was fed twice.
        output: The model output after guidance, the shape of `sample`, float32.
        latents: The latents after the call, the shape of `sample`, float32.
        plan: What is being drawn, its seed included.
    """

    index: int
    total: int
    timestep: float
    sample: NDArray[np.float32]
    output: NDArray[np.float32]
    latents: NDArray[np.float32]
    plan: Plan


def denoise(
    unet: Runner,
    plan: Plan,
    table: SamplerTable,
    conditioning: Conditioning,
    picture: EncodedPicture | None = None,
    controlnet: ControlNet | None = None,
) -> Generator[Step, None, None]:
    """Yields a `Step` per model call; a ControlNet runs before the U-Net at each.

    All noise comes from one stream with the plan's seed: first what the initial latents of the
    whole batch need, where the plan brings none, then the fresh noises in the order of the calls.

    Args:
        unet: The open U-Net.
        plan: What to draw.
        table: The sampler's table; with a picture, that of its start.
        conditioning: The encoded prompts.
        picture: The encoded picture to start from, or None to start from noise.
        controlnet: The open ControlNet, or None where the bundle has none.

    Raises:
        RunError: The U-Net or the ControlNet failed, or gave NaN or infinite values.
    """
    stream = TorchNoise(plan.seed)
    initial = _initial(stream, plan, picture)
    stepper = Stepper(table, initial, lambda: stream.normal(plan.latent_shape))
    while not stepper.done:
        index, timestep, sample = stepper.calls, stepper.timestep, stepper.input()
        raw = _call(unet, sample, timestep, conditioning, plan, controlnet)
        require_finite(raw, f"The U-Net at call {index + 1} of {table.calls}")
        output = _guide(raw, plan)
        stepper.push(output)
        yield Step(index, table.calls, timestep, sample, output, stepper.latent(), plan)


def _initial(stream: TorchNoise, plan: Plan, picture: EncodedPicture | None) -> NDArray[np.float32]:
    """What the table weighs first: unit noise, or the first latents of image to image."""
    if picture is not None:
        return picture.first_latents(stream, plan)
    return stream.normal(plan.latent_shape) if plan.latents is None else plan.latents


def _call(
    unet: Runner,
    sample: NDArray[np.float32],
    timestep: float,
    conditioning: Conditioning,
    plan: Plan,
    controlnet: ControlNet | None,
) -> NDArray[np.float32]:
    """The U-Net's output, a row for each row of the conditioning."""
    feed = {
        "sample": np.concatenate([sample, sample]) if plan.guided else sample,
        "timestep": np.array(timestep, np.float32),
        **conditioning.feed(),
    }
    if controlnet is not None:
        feed |= controlnet(feed)
    return call(unet, feed, ["out_sample"])["out_sample"]


def _guide(output: NDArray[np.float32], plan: Plan) -> NDArray[np.float32]:
    """Classifier-free guidance: one row per image from the negative and the positive ones."""
    if not plan.guided:
        return output
    negative, positive = np.split(output, 2)
    return negative + np.float32(plan.guidance) * (positive - negative)
