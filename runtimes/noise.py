"""The noise of `torch.Generator("cpu")`, without torch.

A bundle run with a seed draws what diffusers draws with that seed, so images can be compared and
reproduced. The generator is Mersenne Twister 19937, the one in numpy's `RandomState`; what is
rebuilt here is how torch makes normal numbers of its words
(`aten/src/ATen/native/cpu/DistributionTemplates.h` and `ATen/core/DistributionsHelper.h`).

The words are the same bit for bit. The logarithm, sine and cosine of torch's vectorised float32
code (AVX2 and AVX-512) are rounded a little differently: the largest deviation found in 8 million
numbers is 2.4e-7 of the larger of 1 and the value. Where torch has no such code (ARM) it rounds the
angle differently too, and its own noise is up to 2.3e-6 off that of x86. Draws of less than 16
numbers are exact everywhere.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..core.errors import OptionError

# torch fills whole blocks of this many numbers, the radii in the first half, the angles in the
# second; shorter draws take another path.
_BLOCK = 16


class TorchNoise:
    """Draws standard normal numbers as `torch.randn(shape, generator=generator)` does.

    Successive calls continue the sequence, as with one generator.

    Attributes:
        seed: The seed asked for.
    """

    def __init__(self, seed: int) -> None:
        """Starts like `torch.Generator("cpu").manual_seed(seed)`.

        Args:
            seed: -2**63 to 2**64 - 1, the range that torch takes. Its Mersenne Twister keeps the
                low 32 bits only, so seeds 2**32 apart draw the same.

        Raises:
            OptionError: The seed is no integer or out of range.
        """
        self.seed = _checked(seed)
        self._words = np.random.RandomState(self.seed % 2**32)
        self._cached: float | None = None

    def normal(self, shape: Sequence[int]) -> NDArray[np.float32]:
        """Draws the next numbers.

        Args:
            shape: Any shape, also an empty one.

        Returns:
            A new float32 array of mean 0 and variance 1.

        Raises:
            OptionError: A dimension is negative.
        """
        if any(size < 0 for size in shape):
            raise OptionError(f"Noise cannot have the shape {tuple(shape)}; give sizes from 0 up.")
        size = math.prod(shape)
        values = self._blocks(size) if size >= _BLOCK else self._singles(size)
        return values.reshape(tuple(shape))

    def _blocks(self, size: int) -> NDArray[np.float32]:
        uniform = self._uniform(size)
        whole = size - size % _BLOCK
        values = np.empty(size, np.float32)
        values[:whole] = _box_muller(uniform[:whole])
        if whole < size:
            # torch overwrites the last 16 with fresh numbers, not just those that are left.
            values[-_BLOCK:] = _box_muller(self._uniform(_BLOCK))
        return values

    def _singles(self, size: int) -> NDArray[np.float32]:
        return np.array([self._single() for _ in range(size)], np.float32)

    def _single(self) -> float:
        """The scalar path: Box-Muller in float64, keeping the second number for the next call."""
        if self._cached is not None:
            value, self._cached = self._cached, None
            return value
        first, second = self._uniform64(), self._uniform64()
        radius = math.sqrt(-2.0 * math.log1p(-second))
        angle = 2.0 * math.pi * first
        self._cached = radius * math.sin(angle)
        return radius * math.cos(angle)

    def _uniform(self, size: int) -> NDArray[np.float32]:
        """Numbers in [0, 1): the low 24 bits of one word each."""
        words = self._words.randint(0, 2**32, size=size, dtype=np.uint32)
        return (words & np.uint32(2**24 - 1)).astype(np.float32) * np.float32(2.0**-24)

    def _uniform64(self) -> float:
        """One number in [0, 1): the low 53 bits of two words, the high one first."""
        high, low = self._words.randint(0, 2**32, size=2, dtype=np.uint32).tolist()
        return float(((high << 32 | low) & (2**53 - 1)) * 2.0**-53)


def _box_muller(uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turns whole blocks of uniform numbers into normal ones, `(n,)` to `(n,)`."""
    blocks = uniform.reshape(-1, 2, _BLOCK // 2)
    # float64, so that every machine rounds alike; only the angle is rounded first, as torch does.
    radius = np.sqrt(-2.0 * np.log1p(-blocks[:, 0].astype(np.float64)))
    angle = (np.float32(2.0 * np.pi) * blocks[:, 1]).astype(np.float64)
    pairs = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1)
    return pairs.reshape(-1).astype(np.float32)


def _checked(seed: int) -> int:
    message = f"A seed is an integer from -2**63 to 2**64 - 1, not {seed!r}; give such a number."
    if isinstance(seed, bool):
        raise OptionError(message)
    try:
        number = operator.index(seed)
    except TypeError as error:
        raise OptionError(message) from error
    if not -(2**63) <= number < 2**64:
        raise OptionError(message)
    return number
