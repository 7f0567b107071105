"""Medians with their spread, and ratios of what was measured in the same round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing.

    Attributes:
        median: Their median.
        low: The smallest.
        high: The largest.
        count: How many there are.
    """

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of some values, None where there are none."""
        if not values:
            return None
        return cls(float(median(values)), min(values), max(values), len(values))


def ratios(values: Sequence[float], first: Sequence[float]) -> list[float]:
    """How many times as long each value is as the first contestant's of the same round.

    Args:
        values: A contestant's, a value for each round that it took part in.
        first: The first contestant's.
    """
    return [own / other for own, other in zip(values, first, strict=False)]
