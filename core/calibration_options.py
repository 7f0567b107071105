"""The options of `kdexport calibrate`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import OptionError


@dataclass(frozen=True)
class CalibrationOptions:
    """What calibration data is recorded of.

    Attributes:
        samples: U-Net calls to keep, at most; there are no more than prompts times calls of a run.
        steps: Denoising steps of every run; None takes the model's own number, at most 25.
        height: Image height in pixels; None takes the model's own.
        width: Image width in pixels; None takes the model's own.
        guidance: Guidance scale of the guided prompts; None takes the model's own.
        seed: What the choice of calls and all noise come from, at least 0.
        limit_mb: What the file may take, in MB (a million bytes).
    """

    samples: int = 64
    steps: int | None = None
    height: int | None = None
    width: int | None = None
    guidance: float | None = None
    seed: int = 0
    limit_mb: int = 300

    def __post_init__(self) -> None:
        for name in ("samples", "steps", "height", "width", "limit_mb"):
            value = getattr(self, name)
            if value is not None and value < 1:
                what = "limit in MB" if name == "limit_mb" else f"number of {name}"
                what = name if name in ("height", "width") else what
                raise OptionError(f"The {what} must be at least 1, not {value}.")
        if (self.height is None) != (self.width is None):
            raise OptionError("A size needs both a height and a width.")
        if self.guidance is not None and not math.isfinite(self.guidance):
            raise OptionError(f"The guidance scale must be a finite number, not {self.guidance}.")
        if self.seed < 0:
            raise OptionError(f"The seed must be at least 0, not {self.seed}.")
