"""The guidance scale as an input of the U-Net, for latent consistency models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def guidance_embedding(guidance: float, size: int) -> NDArray[np.float32]:
    """The sinusoidal embedding of `guidance - 1`, as diffusers feeds it to `timestep_cond`.

    Rounded to float32 where diffusers' `get_guidance_scale_embedding` rounds: the largest angle is
    a thousand times the scale, so the last bit of a frequency is the fourth digit of a sine.

    Args:
        guidance: The guidance scale.
        size: `time_cond_proj_dim` of the U-Net, at least 4.

    Returns:
        `(size,)`: sines, cosines, and a zero where the size is odd.
    """
    half = size // 2
    step = np.float32(np.log(10000.0)) / np.float32(half - 1)
    exponents = np.arange(half, dtype=np.float32) * -step
    # In float64, so that every machine rounds alike.
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = np.float32(guidance - 1) * np.float32(1000) * frequencies
    exact = angles.astype(np.float64)
    values = np.concatenate([np.sin(exact), np.cos(exact), np.zeros(size % 2)])
    return values.astype(np.float32)
