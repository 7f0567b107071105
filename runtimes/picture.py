"""Pictures that users hand in, to steer a run or to start it from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..core.errors import OptionError

# A Pillow image of any mode, or 8-bit pixels `(height, width)` or `(height, width, 3)`.
Picture = Image.Image | NDArray[Any]


def read_picture(path: Path) -> Image.Image:
    """Reads an image file upright and in RGB, as diffusers' `load_image` does.

    Raises:
        OptionError: It is no image that Pillow can read.
    """
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    # Pillow calls a broken PNG a syntax error.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise OptionError(
            f"'{path}' is no image that can be read ({error}); choose a PNG or JPEG file."
        ) from error


def as_image(picture: Any, what: str) -> Image.Image:
    """A picture as a copy in its own mode, which a change of the original does not reach.

    Args:
        picture: What the user handed in.
        what: What messages call it.

    Raises:
        OptionError: It is no picture.
    """
    if isinstance(picture, np.ndarray):
        shape = picture.shape
        if picture.dtype != np.uint8 or len(shape) not in {2, 3} or shape[2:] not in {(), (3,)}:
            raise OptionError(
                f"A {what} that is an array must be 8-bit and (height, width) or (height, width, "
                f"3), not {picture.dtype.name} and {shape}."
            )
        picture = Image.fromarray(np.ascontiguousarray(picture))
    if not isinstance(picture, Image.Image):
        raise OptionError(
            f"A {what} must be a Pillow image or an 8-bit array, not {type(picture).__name__}."
        )
    if min(picture.size) < 1:
        raise OptionError(f"A {what} must have pixels, but its size is {picture.size}.")
    try:
        return picture.copy()
    except OSError as error:
        raise OptionError(f"A {what} cannot be read ({error}).") from error


def sample_picture() -> Image.Image:
    """What verification steers with and starts from: ramps, a disc and strokes with hard edges.

    Its size is that of no image that a bundle draws, so that the resizing counts as well.
    """
    y, x = np.mgrid[0:75, 0:101]
    disc = (x - 60) ** 2 + (y - 32) ** 2 < 400
    pixels = np.stack([x * 255 // 100, y * 255 // 74, 255 * disc], axis=-1).astype(np.uint8)
    strokes = (x + 2 * y) % 26 < 3
    pixels[strokes] = 255 - pixels[strokes]
    return Image.fromarray(pixels)
