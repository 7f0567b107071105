"""The denoising loop: the U-Net, guidance, and the rows of a compiled sampler."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

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


class StepArrays(Protocol):
    """The arrays of a step, which may still have to be fetched from a device; see `Step`."""

    @property
    def sample(self) -> NDArray[np.float32]:
        """What the U-Net was fed."""

    @property
    def output(self) -> NDArray[np.float32]:
        """What it gave, after guidance."""

    @property
    def latents(self) -> NDArray[np.float32]:
        """The latents after the call."""


@dataclass(frozen=True, eq=False)
class HostArrays:
    """The arrays of a step in the memory of the host; see `Step`."""

    sample: NDArray[np.float32]
    output: NDArray[np.float32]
    latents: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Step:
    """One model call and the latents after it; the last step carries the final latents.

    Attributes:
        index: Number of the call, from 0.
        total: Number of calls, which can differ from the steps asked for.
        timestep: What the U-Net was told.
        plan: What is being drawn, its seed included.
        arrays: Where the arrays are.
    """

    index: int
    total: int
    timestep: float
    plan: Plan
    arrays: StepArrays

    @property
    def sample(self) -> NDArray[np.float32]:
        """The latents that the U-Net was fed, `(images, channels, height, width)`, float32.

        They are scaled as the scheduler scales them; with guidance each row was fed twice.
        """
        return self.arrays.sample

    @property
    def output(self) -> NDArray[np.float32]:
        """The model output after guidance, the shape of `sample`, float32."""
        return self.arrays.output

    @property
    def latents(self) -> NDArray[np.float32]:
        """The latents after the call, the shape of `sample`, float32."""
        return self.arrays.latents


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
    initial = first_latents(stream, plan, picture)
    stepper = Stepper(table, initial, lambda: stream.normal(plan.latent_shape))
    while not stepper.done:
        index, timestep, sample = stepper.calls, stepper.timestep, stepper.input()
        raw = _call(unet, sample, timestep, conditioning, plan, controlnet)
        require_finite(raw, f"The U-Net at call {index + 1} of {table.calls}")
        output = _guide(raw, plan)
        stepper.push(output)
        arrays = HostArrays(sample, output, stepper.latent())
        yield Step(index, table.calls, timestep, plan, arrays)


def first_latents(
    stream: TorchNoise, plan: Plan, picture: EncodedPicture | None
) -> NDArray[np.float32]:
    """What the table weighs first: unit noise, or the first latents of image to image.

    Args:
        stream: The noise of the run, from which nothing was drawn yet.
        plan: What is drawn.
        picture: The encoded picture to start from, or None to start from noise.
    """
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
