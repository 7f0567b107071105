"""Fixtures of the world's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage


@pytest.fixture(scope="session")
def worn() -> Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]:
    """Gives a picture as a model might draw it: blurred, noisy and off in colour."""

    def wear(image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        random = np.random.default_rng(seed)
        blurred = ndimage.gaussian_filter(image.astype(np.float64), (0.8, 0.8, 0))
        shifted = blurred + random.uniform(-6, 6, 3)
        noisy = shifted + random.normal(0, 6, image.shape)
        return noisy.round().clip(0, 255).astype(np.uint8)

    return wear
