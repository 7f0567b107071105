"""A histogram of a tensor's values that is kept while they come, and what it says of rounding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import CalibrationError
from ..core.ranges import TensorRange

Floats = NDArray[np.float32]

_BINS = 4096
# Numbers of a tensor that are counted at each call; its extremes are those of all.
_SAMPLES = 1 << 16
# Bins of less would be too narrow for float32.
_LEAST = 2.0**-100
# Shares of the extremes that a range may be clipped to.
_CLIPS = np.linspace(0.3, 1.0, 36)
# Mean squared error of float8 e4m3fn over the mean square: three bits of fraction, 2**-6 / 12, for
# significands spread evenly on a logarithmic scale (the mean of 1/m**2 from 1 to 2 is 0.541).
_FLOAT8_NOISE = 2.0**-6 / 12 * 0.541


@dataclass(frozen=True)
class Noise:
    """Mean squared errors of a tensor that is rounded with its `TensorRange`, by kind.

    Attributes:
        unsigned: With 256 steps between low and high.
        signed: With 255 steps between plus and minus the peak.
        float8: As float8 e4m3fn.
    """

    unsigned: float
    signed: float
    float8: float


class Histogram:
    """Counts of values in bins from `-reach` to `reach`, which doubles where values go beyond."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.float64)
        self._reach = 0.0
        self._low = self._high = 0.0

    def add(self, values: Floats, name: str) -> None:
        """Counts the values of a tensor.

        Args:
            values: Any shape.
            name: Of the tensor, for the message.

        Raises:
            CalibrationError: One of them is NaN or infinite.
        """
        flat = values.reshape(-1)
        low, high = float(flat.min()), float(flat.max())
        if not np.isfinite([low, high]).all():
            raise CalibrationError(
                f"The activations of '{name}' are NaN or infinite on the calibration data; "
                "calibrate again, on inputs that the model can take."
            )
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._widen(max(-low, high))
        # Odd, so that the sample does not follow a row or a channel.
        sample = flat[:: 2 * (flat.size // _SAMPLES // 2) + 1]
        if self._reach:
            self._counts += np.histogram(sample, _BINS, (-self._reach, self._reach))[0]

    def _widen(self, peak: float) -> None:
        if self._reach == 0.0 and peak > 0:
            self._reach = max(peak, _LEAST)
        while 0 < self._reach < peak:
            pairs = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts[:] = 0
            self._counts[_BINS // 4 : -_BINS // 4] = pairs
            self._reach *= 2

    def range(self) -> tuple[TensorRange, Noise]:
        """The ranges with the least squared errors, and these."""
        if self._reach == 0.0:
            return TensorRange(0.0, 0.0, 0.0, 0.0), Noise(0.0, 0.0, 0.0)
        edges = np.linspace(-self._reach, self._reach, _BINS + 1)
        values, shares = (edges[1:] + edges[:-1]) / 2, self._counts / self._counts.sum()
        largest = max(-self._low, self._high)
        errors = [
            _error(values, shares, clip * self._low, clip * self._high, 255) for clip in _CLIPS
        ]
        best = int(np.argmin(errors))
        peaks = [_error(values, shares, -clip * largest, clip * largest, 254) for clip in _CLIPS]
        found = int(np.argmin(peaks))
        power = float((shares * values * values).sum())
        return (
            TensorRange(
                low=float(_CLIPS[best] * self._low),
                high=float(_CLIPS[best] * self._high),
                peak=float(_CLIPS[found] * largest),
                largest=largest,
            ),
            Noise(float(errors[best]), float(peaks[found]), _FLOAT8_NOISE * power),
        )


def _error(
    values: NDArray[np.float64], shares: NDArray[np.float64], low: float, high: float, steps: int
) -> float:
    """Mean squared error: that of rounding inside the range, and of clipping outside."""
    inside = (values >= low) & (values <= high)
    step = (high - low) / steps
    clipped = np.square(values - np.clip(values, low, high))
    return float(step * step / 12 * shares[inside].sum() + (shares * clipped).sum())
