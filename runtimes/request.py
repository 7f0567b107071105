"""What a user asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from numpy.typing import NDArray

from ..core.errors import OptionError
from .noise import TorchNoise
from .picture import Picture
from .start import require_start


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
        init: A picture to start from instead of noise, for which the bundle needs an encoder: a
            PIL image, or 8-bit RGB pixels `(height, width, 3)`. All images start from it. Without
            a height and width, its own size is drawn, rounded down to what the bundle takes.
        strength: How far to go from that picture, above 0 and at most 1: the share of the steps
            that are run, as in diffusers' image to image pipelines.
        control: What a bundle with a ControlNet draws after: a Pillow image or 8-bit pixels
            `(height, width, 3)` or `(height, width)`, resized to the size of the image; one
            picture for all prompts, or one for each.
        control_scale: How much the ControlNet counts; 0 for not at all.
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
    init: Picture | None = None
    strength: float | None = None
    control: Picture | Sequence[Picture] | None = None
    control_scale: float | None = None

    def __post_init__(self) -> None:
        prompts = as_texts(self.prompt, "prompt")
        if not prompts:
            raise OptionError("There is no prompt; give at least one.")
        if self.negative_prompt is not None:
            negatives = as_texts(self.negative_prompt, "negative prompt")
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
        for name in ("guidance", "control_scale"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Real) and math.isfinite(value)):
                what = "control" if name == "control_scale" else name
                raise OptionError(f"The {what} scale must be a finite number, not {value!r}.")
        if self.seed is not None:
            TorchNoise(self.seed)  # raises where torch takes no such seed
        require_start(self.init, self.strength, self.latents)


def as_texts(value: str | Sequence[str], what: str) -> tuple[str, ...]:
    """One text or several as a tuple; raises `OptionError` where one of them is none.

    Args:
        value: The text or texts.
        what: What messages call one of them.
    """
    texts = (value,) if isinstance(value, str) else tuple(value)
    for text in texts:
        if not isinstance(text, str):
            raise OptionError(f"A {what} must be a string, not {type(text).__name__}.")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise OptionError(f"The {what} {text!r} is not valid Unicode: it has a lone surrogate.")
    return texts
