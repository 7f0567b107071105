"""Decoder output to 8-bit images and PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..core.errors import OptionError, RunError
from ..core.manifest import Manifest
from .plan import Plan


def to_uint8(decoded: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Turns decoder output into 8-bit pixels, as diffusers' `VaeImageProcessor` does.

    Args:
        decoded: `(n, 3, height, width)`, float32, -1 to 1 for black to white.

    Returns:
        `(n, height, width, 3)`.
    """
    unit = np.clip(decoded * np.float32(0.5) + np.float32(0.5), 0, 1)
    pixels: NDArray[np.uint8] = (unit * np.float32(255)).round().astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def to_images(pixels: NDArray[np.uint8], plan: Plan, manifest: Manifest) -> list[Image.Image]:
    """Makes PIL images whose `info` says how each was drawn, every value a string."""
    images = []
    for index, array in enumerate(pixels):
        image = Image.fromarray(array)
        image.info.update(describe(plan, index, manifest))
        images.append(image)
    return images


def describe(plan: Plan, index: int, manifest: Manifest) -> dict[str, str]:
    """What it takes to draw image `index` of a plan again, as strings.

    The noise of a batch is one draw, so an image of a larger batch comes back only with the same
    batch; `image` tells its place.
    """
    prompt = index // plan.images_per_prompt
    values = {
        "prompt": plan.prompts[prompt],
        "negative_prompt": None if plan.negatives is None else plan.negatives[prompt],
        "steps": plan.steps,
        "guidance": plan.guidance,
        "seed": plan.seed,
        "latents": None if plan.latents is None else "given by the caller",
        "init": None if plan.init is None else "given by the caller",
        "strength": None if plan.init is None else plan.strength,
        "control": None if plan.control is None else "a picture given by the caller",
        "control_scale": None if plan.control is None else plan.control.scale,
        "size": f"{plan.width}x{plan.height}",
        "image": f"{index + 1} of {plan.latent_shape[0]}",
        "scheduler": plan.scheduler,
        "model": manifest.source.model,
        "software": f"kdexport {manifest.tools.get('kdexport', '')}".strip(),
    }
    return {key: str(value) for key, value in values.items() if value is not None}


def require_png_path(path: Path) -> None:
    """Raises `OptionError` where no PNG file can be at `path`: another ending, or no folder."""
    if path.suffix.lower() != ".png":
        raise OptionError(f"The image '{path}' must have a name that ends in .png.")
    if not path.absolute().parent.is_dir():
        raise OptionError(
            f"The image cannot be written to '{path}': there is no folder "
            f"'{path.absolute().parent}'; make it first."
        )


def save_png(image: Image.Image, path: Path) -> None:
    """Writes a PNG file whose text chunks hold the strings of `image.info`.

    Raises:
        OptionError: The name does not end in `.png`.
        RunError: The file cannot be written.
    """
    path = Path(path)
    require_png_path(path)
    chunks = PngInfo()
    for key, value in image.info.items():
        if isinstance(key, str) and isinstance(value, str):
            chunks.add_text(key, value)
    try:
        image.save(path, format="PNG", pnginfo=chunks)
    except OSError as error:
        raise RunError(f"The image cannot be written to '{path}' ({error}).") from error
