"""From what a user asks for to what is drawn, every blank filled in from the bundle."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from ..core.errors import OptionError, choices
from ..core.guidance import is_guided
from ..core.manifest import Manifest, Shapes
from .control import Control, plan_control
from .request import Request, as_texts
from .start import (
    fit_picture,
    rounded_size,
    skipped_steps,
    starting_picture,
    starting_strength,
)


@dataclass(frozen=True, eq=False)
class Plan:
    """A request with nothing left open, checked against the bundle.

    Attributes:
        prompts: The prompts.
        negatives: A negative prompt for each, or None for zero embeddings or no guidance.
        steps: Denoising steps.
        guidance: Guidance scale.
        seed: Seed of all noise.
        height: Image height in pixels.
        width: Image width in pixels.
        images_per_prompt: Images of each prompt.
        scheduler: Name of the sampler.
        latent_shape: Shape of the latents, `(images, channels, height, width)`.
        latents: Unit-variance noise to start from, float32, or None to draw it from the seed.
        init: The picture to start from at the plan's size, `(height, width, 3)`, 8-bit RGB, or
            None to start from noise.
        strength: Share of the steps that are run; 1 without a picture.
        guidance_size: Size of the guidance embedding that the U-Net takes, or None where guidance
            means a second row.
        control: What steers the run through a ControlNet, or None where the bundle has none.
    """

    prompts: tuple[str, ...]
    negatives: tuple[str, ...] | None
    steps: int
    guidance: float
    seed: int
    height: int
    width: int
    images_per_prompt: int
    scheduler: str
    latent_shape: tuple[int, int, int, int]
    latents: NDArray[np.float32] | None
    init: NDArray[np.uint8] | None = None
    strength: float = 1.0
    guidance_size: int | None = None
    control: Control | None = None

    @property
    def guided(self) -> bool:
        """Whether each image takes two U-Net rows."""
        return is_guided(self.guidance, self.guidance_size)

    @property
    def skipped(self) -> int:
        """How many of the steps are left out at the beginning."""
        return skipped_steps(self.strength, self.steps)


def make_plan(request: Request, manifest: Manifest) -> Plan:
    """Fills in a request's blanks; the step count is checked by `Sampler.table`.

    Raises:
        OptionError: The bundle cannot draw this; the message says what it can.
    """
    defaults, latents, shapes = manifest.defaults, manifest.latents, manifest.shapes
    prompts = as_texts(request.prompt, "prompt")
    guidance = defaults.guidance if request.guidance is None else request.guidance
    picture = starting_picture(request.init, manifest)
    height, width = _size(request, picture, manifest)
    images = len(prompts) * request.images_per_prompt
    guided = is_guided(guidance, manifest.guidance_embedding)
    _require_batch(images, guided, shapes)
    shape = (images, latents.channels, height // latents.factor, width // latents.factor)
    plan = Plan(
        prompts=prompts,
        negatives=_negatives(request, manifest, prompts) if guided else None,
        steps=request.steps or defaults.steps,
        guidance=guidance,
        seed=secrets.randbits(32) if request.seed is None else request.seed,
        height=height,
        width=width,
        images_per_prompt=request.images_per_prompt,
        scheduler=request.scheduler or defaults.scheduler,
        latent_shape=shape,
        latents=None if request.latents is None else _noise(request.latents, shape),
        control=plan_control(
            request.control, request.control_scale, manifest.control, len(prompts)
        ),
        init=None if picture is None else fit_picture(picture, height, width),
        strength=starting_strength(request.init, request.strength, manifest),
        guidance_size=manifest.guidance_embedding,
    )
    skipped_steps(plan.strength, plan.steps)  # raises where no step is left
    return plan


def _negatives(
    request: Request, manifest: Manifest, prompts: Sequence[str]
) -> tuple[str, ...] | None:
    """As diffusers: zero embeddings if the pipeline wants them, else the empty string."""
    negative = request.negative_prompt
    if negative is None:
        negative = manifest.defaults.negative_prompt
    if negative is None:
        if manifest.zero_negative:
            return None
        negative = ""
    return (negative,) * len(prompts) if isinstance(negative, str) else tuple(negative)


def allowed_size(
    shapes: Shapes, wanted: tuple[int | None, int | None], default: tuple[int, int]
) -> tuple[int, int]:
    """Image height and width in pixels, checked against what a bundle draws.

    Args:
        shapes: What it draws.
        wanted: What was asked for, None where that was left open.
        default: What an open one becomes, where the bundle leaves it open too.

    Raises:
        OptionError: The bundle does not draw that size; the message says what it draws.
    """
    if shapes.sizes:
        size = wanted[0] or default[0], wanted[1] or default[1]
        if size not in shapes.sizes:
            allowed = choices([f"{height} x {width}" for height, width in shapes.sizes])
            raise OptionError(
                f"The bundle draws {allowed} pixels (height x width) only, not {size[0]} x "
                f"{size[1]}; export again with that size."
            )
        return size
    return (
        fitting_size("height", wanted[0], shapes.height, default[0], shapes.multiple),
        fitting_size("width", wanted[1], shapes.width, default[1], shapes.multiple),
    )


def fitting_size(
    name: str, wanted: int | None, only: int | None, default: int, multiple: int
) -> int:
    """Height or width in pixels: the wanted one, else the bundle's.

    Raises:
        OptionError: It is not `only`, or no multiple of `multiple`; the message says what fits.
    """
    if only is not None:
        if wanted not in (None, only):
            raise OptionError(
                f"The bundle draws a {name} of {only} pixels only, not {wanted}; leave the size "
                "out, or export again with that size."
            )
        return only
    size = default if wanted is None else wanted
    if size % multiple:
        below = size - size % multiple
        nearest = [str(value) for value in (below, below + multiple) if value]
        raise OptionError(
            f"The {name} must be a multiple of {multiple} pixels, not {size}; choose "
            f"{choices(nearest)}."
        )
    return size


def _size(request: Request, picture: Image | None, manifest: Manifest) -> tuple[int, int]:
    """Height and width in pixels: those asked for, else the picture's, else the bundle's."""
    defaults, shapes = manifest.defaults, manifest.shapes
    size = (defaults.height, defaults.width)
    if picture is not None:
        size = rounded_size(picture, shapes.multiple)
    height, width = allowed_size(shapes, (request.height, request.width), size)
    if picture is not None and 0 in (height, width):
        raise OptionError(
            f"The picture of {picture.height} x {picture.width} pixels is smaller than the bundle "
            f"can draw; give a height and width in multiples of {shapes.multiple}."
        )
    return height, width


def _require_batch(images: int, guided: bool, shapes: Shapes) -> None:
    rows = images * 2 if guided else images
    if shapes.batch is not None and rows != shapes.batch:
        why = "two each with guidance" if guided else "one each without guidance"
        raise OptionError(
            f"The bundle's U-Net takes {shapes.batch} rows, but {images} images need {rows} "
            f"({why}); change the number of images or the guidance, or export again with a "
            "dynamic batch."
        )


def _noise(latents: NDArray[Any], shape: tuple[int, int, int, int]) -> NDArray[np.float32]:
    array = np.asarray(latents)
    if array.shape != shape:
        raise OptionError(
            f"The latents must have the shape {shape} (images, channels, latent height, latent "
            f"width), not {array.shape}."
        )
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise OptionError(
            "The latents must be finite floating-point numbers; make them anew, or give a seed "
            "instead."
        )
    # A copy: the run must not change when the caller's array does.
    return array.astype(np.float32)
