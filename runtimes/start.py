"""The picture that a run starts from: checked, brought to size and to the encoder's values.

The arithmetic is that of diffusers' `VaeImageProcessor.preprocess` for PIL images, and of the
`get_timesteps` of its image to image pipelines.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.errors import OptionError
from ..core.manifest import Manifest
from .picture import Picture, as_image

# Share of the schedule that is run, by family: the defaults of diffusers' pipelines.
_STRENGTHS = {"sd": 0.8, "sdxl": 0.3}


def require_start(
    init: Picture | None, strength: float | None, latents: NDArray[Any] | None
) -> None:
    """Checks what a request says of its start, whatever the bundle.

    Raises:
        OptionError: The picture is none, or the strength is out of range, or has no picture, or
            there are latents as well.
    """
    if init is None:
        if strength is not None:
            raise OptionError("A strength needs a picture to start from; give one with it.")
        return
    as_image(init, "starting picture")
    if latents is not None:
        raise OptionError("A run starts from a picture or from latents; leave one of them out.")
    if strength is not None and not (isinstance(strength, Real) and 0 < strength <= 1):
        raise OptionError(f"The strength must be above 0 and at most 1, not {strength!r}.")


def starting_picture(init: Picture | None, manifest: Manifest) -> Image.Image | None:
    """The picture to start from in RGB; raises `OptionError` where the bundle cannot encode it."""
    if init is None:
        return None
    if all(component.role != "vae_encoder" for component in manifest.components):
        raise OptionError(
            "The bundle has no VAE encoder, so it cannot start from a picture; export the model "
            "again with --with-encoder."
        )
    return as_image(init, "starting picture").convert("RGB")


def starting_strength(init: Picture | None, wanted: float | None, manifest: Manifest) -> float:
    """The strength asked for, else the default of diffusers' pipeline; 1 without a picture."""
    if init is None:
        return 1.0
    return _STRENGTHS[manifest.family] if wanted is None else float(wanted)


def skipped_steps(strength: float, steps: int) -> int:
    """How many steps a strength leaves out at the beginning.

    Args:
        strength: Share of the steps that are run, above 0 and at most 1.
        steps: Denoising steps of the whole schedule.

    Raises:
        OptionError: No step would be left.
    """
    kept = int(steps * strength)
    if kept < 1:
        raise OptionError(
            f"A strength of {strength:g} leaves none of {steps} steps; choose a larger strength "
            "or more steps."
        )
    return steps - kept


def rounded_size(picture: Image.Image, multiple: int) -> tuple[int, int]:
    """Height and width of a picture in pixels, each rounded down to a multiple."""
    return picture.height - picture.height % multiple, picture.width - picture.width % multiple


def fit_picture(picture: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """A picture at a size in pixels, `(height, width, 3)`; its proportions are not kept."""
    return np.array(picture.resize((width, height), Image.Resampling.LANCZOS), np.uint8)


def to_signed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """8-bit pixels `(height, width, 3)` as `(1, 3, height, width)` from -1 to 1."""
    unit = pixels.astype(np.float32) / np.float32(255)
    signed = np.float32(2) * unit - np.float32(1)
    return np.ascontiguousarray(signed.transpose(2, 0, 1)[None])
