"""What the user asks for, and the same with every blank filled in from the manifest."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import OptionError, choices
from ..core.manifest import Manifest, Shapes
from .noise import TorchNoise


@dataclass(frozen=True, eq=False)
class Request:
    """What to draw; None stands for the bundle's default.

    Attributes:
        prompt: One prompt, or several that are drawn in one batch.
        negative_prompt: What to steer away from: one for all prompts, or one for each. The empty
            string is encoded as such; where neither this nor the bundle names one, the model's
            own way holds (SDXL: zero embeddings, SD: the empty string).
        steps: Denoising steps.
        guidance: Guidance scale; at most 1 means none, and one U-Net row per image.
        seed: Seed of all noise, None for a random one (`Plan.seed` tells which).
        height: Image height in pixels.
        width: Image width in pixels.
        images_per_prompt: Images of each prompt.
        scheduler: Name of a sampler of the bundle.
        latents: Unit-variance noise to start from, `(images, channels, height / factor,
            width / factor)`, as the argument of the same name in diffusers; the seed then serves
            the fresh noise of stochastic samplers only.
    """

    prompt: str | Sequence[str]
    negative_prompt: str | Sequence[str] | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    height: int | None = None
    width: int | None = None
    images_per_prompt: int = 1
    scheduler: str | None = None
    latents: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        prompts = _texts(self.prompt, "prompt")
        if not prompts:
            raise OptionError("There is no prompt; give at least one.")
        if self.negative_prompt is not None:
            negatives = _texts(self.negative_prompt, "negative prompt")
            if not isinstance(self.negative_prompt, str) and len(negatives) != len(prompts):
                raise OptionError(
                    f"There are {len(prompts)} prompts but {len(negatives)} negative prompts; "
                    "give one for all, or one for each."
                )
        for name in ("steps", "height", "width", "images_per_prompt"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Integral) or int(value) < 1):
                raise OptionError(
                    f"'{name}' must be a whole number of at least 1, not {value!r}; give such a "
                    "number."
                )
        if self.guidance is not None and not (
            isinstance(self.guidance, Real) and math.isfinite(self.guidance)
        ):
            raise OptionError(f"The guidance scale must be a finite number, not {self.guidance!r}.")
        if self.seed is not None:
            TorchNoise(self.seed)  # raises where torch takes no such seed


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

    @property
    def guided(self) -> bool:
        """Whether each image takes two U-Net rows."""
        return is_guided(self.guidance)


def is_guided(guidance: float) -> bool:
    """Whether a guidance scale has an effect, by the rule of diffusers."""
    return guidance > 1.0


def make_plan(request: Request, manifest: Manifest) -> Plan:
    """Fills in a request's blanks; the step count is checked by `Sampler.table`.

    Raises:
        OptionError: The bundle cannot draw this; the message says what it can.
    """
    defaults, latents, shapes = manifest.defaults, manifest.latents, manifest.shapes
    prompts = _texts(request.prompt, "prompt")
    guidance = defaults.guidance if request.guidance is None else request.guidance
    height = fitting_size("height", request.height, shapes.height, defaults.height, shapes.multiple)
    width = fitting_size("width", request.width, shapes.width, defaults.width, shapes.multiple)
    images = len(prompts) * request.images_per_prompt
    _require_batch(images, guidance, shapes)
    shape = (images, latents.channels, height // latents.factor, width // latents.factor)
    return Plan(
        prompts=prompts,
        negatives=_negatives(request, manifest, prompts) if is_guided(guidance) else None,
        steps=request.steps or defaults.steps,
        guidance=guidance,
        seed=secrets.randbits(32) if request.seed is None else request.seed,
        height=height,
        width=width,
        images_per_prompt=request.images_per_prompt,
        scheduler=request.scheduler or defaults.scheduler,
        latent_shape=shape,
        latents=None if request.latents is None else _noise(request.latents, shape),
    )


def _texts(value: str | Sequence[str], what: str) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value)
    for text in texts:
        if not isinstance(text, str):
            raise OptionError(f"A {what} must be a string, not {type(text).__name__}.")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise OptionError(f"The {what} {text!r} is not valid Unicode: it has a lone surrogate.")
    return texts


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
                "out, or export again with that size or a dynamic one."
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


def _require_batch(images: int, guidance: float, shapes: Shapes) -> None:
    rows = images * 2 if is_guided(guidance) else images
    if shapes.batch is not None and rows != shapes.batch:
        why = "two each with guidance" if is_guided(guidance) else "one each without guidance"
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
        raise OptionError("The latents must be finite floating-point numbers.")
    # A copy: the run must not change when the caller's array does.
    return array.astype(np.float32)
