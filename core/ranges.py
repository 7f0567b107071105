"""The ranges of activations: what the inputs and outputs of layers are clipped to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .errors import CalibrationError, listing

# The smallest normal number of float32.
_LEAST = 2.0**-126


@dataclass(frozen=True)
class TensorRange:
    """The values of a tensor over all calibration data.

    Attributes:
        low: Where the 256 steps of unsigned integers begin, at most 0.
        high: Where they end, at least 0.
        peak: The magnitude that signed integers reach to.
        largest: The largest magnitude that occurred, which float8 reaches to.
    """

    low: float
    high: float
    peak: float
    largest: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.low, self.high, self.peak, self.largest))):
            raise CalibrationError(
                "A range of activations is not finite; calibrate again, on data without NaN."
            )
        if self.low > 0 or self.high < 0 or self.peak < 0 or self.largest < self.peak:
            raise CalibrationError(
                f"The range {self.low:g} to {self.high:g}, ±{self.peak:g} of ±{self.largest:g} is "
                "none; calibrate again."
            )

    @property
    def unsigned(self) -> tuple[float, int]:
        """Scale and zero point of unsigned 8-bit integers."""
        scale = _scale((self.high - self.low) / 255)
        return scale, min(255, round(-self.low / scale))

    @property
    def signed(self) -> float:
        """Scale of signed 8-bit integers."""
        return _scale(self.peak / 127)

    @property
    def float8(self) -> float:
        """Scale of float8 e4m3fn."""
        return _scale(self.largest / 448)


@dataclass(frozen=True)
class LayerRange:
    """The ranges of what goes into a layer and of what it gives, its bias included."""

    input: TensorRange
    output: TensorRange


def _scale(step: float) -> float:
    """A step that float32 can divide by: 1 where all values are zero, or nearly."""
    return step if step >= _LEAST else 1.0


# By name of the layer, as the module has it: `down_blocks.0.resnets.0.conv1`.
Ranges = Mapping[str, LayerRange]


def require_ranges(ranges: Ranges, layers: Iterable[str]) -> None:
    """Raises `CalibrationError` naming the layers whose activations have no range."""
    missing = [each for each in layers if each not in ranges]
    if missing:
        raise CalibrationError(
            f"The calibration data says nothing about the activations of {listing(missing)}; "
            "calibrate this model with `kdexport calibrate`."
        )


def ranges_to_json(ranges: Ranges) -> dict[str, Any]:
    """Ranges as JSON values."""
    return {name: asdict(each) for name, each in ranges.items()}


def ranges_from_json(data: Mapping[str, Any]) -> dict[str, LayerRange]:
    """Reads what `ranges_to_json` wrote.

    Raises:
        CalibrationError: It is something else.
    """
    try:
        return {
            name: LayerRange(TensorRange(**each["input"]), TensorRange(**each["output"]))
            for name, each in data.items()
        }
    except (KeyError, TypeError) as error:
        raise CalibrationError(
            f"The ranges of activations cannot be read ({error}); calibrate again."
        ) from error
