"""The PSNR of the latents after every step, as lines of an SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# The drawing, in units of the SVG; it scales with the page.
WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 36
# Equal latents have no PSNR; they are drawn here, as are values above it.
HIGHEST_DB = 160.0


@dataclass(frozen=True)
class Point:
    """A step of a run: its place, and what a pointer on it says."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Line:
    """A run."""

    name: str
    points: tuple[Point, ...]

    @property
    def path(self) -> str:
        """The points as an SVG polyline has them."""
        return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in self.points)


@dataclass(frozen=True)
class Mark:
    """A tick of an axis."""

    place: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Lines and axes, in units of the SVG.

    Attributes:
        lines: The runs that have steps.
        horizontal: Ticks of the steps, from the left.
        vertical: Ticks of the PSNR in dB, from the top.
    """

    lines: tuple[Line, ...]
    horizontal: tuple[Mark, ...]
    vertical: tuple[Mark, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def step_chart(runs: Sequence[tuple[str, Sequence[float]]]) -> Chart | None:
    """Draws the PSNR of runs by step.

    Args:
        runs: Name of each run, and its PSNR in dB after every step; infinite where the latents
            are equal, NaN where they are not finite, which ends the line.

    Returns:
        The chart, or None where no run has a step to draw.
    """
    drawn = {index: _drawable(values) for index, (_, values) in enumerate(runs)}
    values = [value for each in drawn.values() for value in each]
    if not values:
        return None
    steps = max(len(each) for each in drawn.values())
    low, high = 10 * math.floor(min(values) / 10), 10 * math.ceil(max(values) / 10)
    high = max(high, low + 10)

    def x(step: int) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * ((step - 0.5) / steps)

    def y(value: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    lines = tuple(
        Line(
            runs[index][0],
            tuple(
                Point(x(step), y(value), f"{runs[index][0]}, step {step}: {_text(value)}")
                for step, value in enumerate(each, 1)
            ),
        )
        for index, each in drawn.items()
        if each
    )
    stride, rise = max(1, math.ceil(steps / 12)), 10 * max(1, math.ceil((high - low) / 80))
    return Chart(
        lines,
        tuple(Mark(x(step), str(step)) for step in range(1, steps + 1, stride)),
        tuple(Mark(y(level), str(level)) for level in range(low, high + 1, rise)),
    )


def _drawable(values: Sequence[float]) -> list[float]:
    """The values up to the first that is none."""
    kept: list[float] = []
    for value in values:
        if math.isnan(value):
            break
        kept.append(min(value, HIGHEST_DB))
    return kept


def _text(value: float) -> str:
    return "equal" if value >= HIGHEST_DB else f"{value:.1f} dB"
