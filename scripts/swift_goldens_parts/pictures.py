"""Pillow's resizing, diffusers' image processor, and its embedding of the guidance scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import LatentConsistencyModelPipeline
from diffusers.image_processor import VaeImageProcessor
from kdexport.runtimes.picture import sample_picture
from numpy.typing import NDArray
from PIL import Image

from .files import Pool, write_json

# Width and height, before and after.
SIZES = (
    *((101, 75, 64, 64), (101, 75, 128, 128), (64, 64, 101, 75), (512, 384, 128, 128)),
    *((33, 17, 33, 40), (33, 17, 20, 17), (33, 17, 33, 17), (300, 200, 7, 5), (7, 5, 300, 200)),
    *((1, 1, 5, 7), (7, 1, 3, 9), (1, 9, 4, 2), (2, 2, 1, 1), (13, 29, 256, 200)),
    *((640, 3, 64, 64), (97, 89, 96, 88), (96, 88, 97, 89), (1000, 700, 333, 512)),
)
GUIDANCE = (0.0, 1.0, 1.5, 2.0, 7.5, 8.5, 12.25, 20.0)
EMBEDDINGS = (4, 7, 256, 257, 320)


def write_pictures(out: Path) -> int:
    """Writes `pictures.json`; returns the number of cases."""
    floats, pixels = Pool("<f4"), Pool("u1")
    data = {
        "resized": [_resized(pixels, sizes) for sizes in SIZES],
        "read": [_read(pixels, floats, picture) for picture in (_picture(31, 22, 3), _grey())],
        "decoded": [_decoded(pixels, floats, array) for array in (_halves(), _wide())],
        "guidance": [_embedding(floats, g, size) for g in GUIDANCE for size in EMBEDDINGS],
    }
    floats.write(out / "pictures.f32")
    pixels.write(out / "pictures.u8")
    write_json(out / "pictures.json", data)
    return sum(len(cases) for cases in data.values())


def _picture(width: int, height: int, seed: int) -> Image.Image:
    """Noise with areas of black and white, whose edges overshoot when they are resized."""
    state = np.random.RandomState(seed)
    pixels = state.randint(0, 256, (height, width, 3)).astype(np.uint8)
    pixels[: height // 3] = np.where(pixels[: height // 3] > 127, 255, 0)
    pixels[-(height // 4) :, : width // 2] = 255
    return Image.fromarray(pixels)


def _resized(pool: Pool, sizes: tuple[int, int, int, int]) -> dict[str, Any]:
    width, height, *target = sizes
    known = (width, height) == (101, 75)
    picture = sample_picture() if known else _picture(width, height, sum(sizes))
    resized = picture.resize((target[0], target[1]), Image.Resampling.LANCZOS)
    return {"from": pool.add(np.asarray(picture)), "to": pool.add(np.asarray(resized))}


def _grey() -> Image.Image:
    """Every byte."""
    return Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")


def _read(pixels: Pool, floats: Pool, picture: Image.Image) -> dict[str, Any]:
    """A picture as the VAE encoder and as ControlNets read it."""
    own: Any = {"vae_scale_factor": 1}
    signed = VaeImageProcessor(**own).preprocess(picture)
    unit = VaeImageProcessor(**own, do_normalize=False).preprocess(picture)
    return {
        "picture": pixels.add(np.asarray(picture)),
        "signed": floats.add(signed.numpy()),
        "unit": floats.add(unit.numpy()),
    }


def _decoded(pixels: Pool, floats: Pool, array: NDArray[np.float32]) -> dict[str, Any]:
    """Decoder output as pictures."""
    pictures = VaeImageProcessor().postprocess(torch.from_numpy(array), output_type="pil")
    pixels_of = [pixels.add(np.asarray(picture)) for picture in pictures]
    return {"decoded": floats.add(array), "pictures": pixels_of}


def _halves() -> NDArray[np.float32]:
    """Values that become a byte and a half, and their neighbours."""
    halves = ((np.arange(512) / 2 / 255 - 0.5) * 2).astype(np.float32)
    below, above = np.nextafter(halves, np.float32(-9)), np.nextafter(halves, np.float32(9))
    return np.stack([below, halves, above]).reshape(1, 3, 16, 32)


def _wide() -> NDArray[np.float32]:
    """Values in and beyond the range."""
    return np.random.RandomState(2).normal(0, 0.8, (3, 3, 20, 24)).astype(np.float32)


def _embedding(pool: Pool, guidance: float, size: int) -> dict[str, Any]:
    embed = LatentConsistencyModelPipeline.get_guidance_scale_embedding
    pipeline: Any = None
    embedded = embed(pipeline, torch.tensor([guidance - 1]), embedding_dim=size)[0].numpy()
    return {"guidance": guidance, "size": size, "embedding": pool.add(embedded)}
