"""Outlines of the world's shapes as polygons in a square from -1 to 1, y downwards."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import cos, hypot, pi, sin

Point = tuple[float, float]
Outline = tuple[Point, ...]

_FINE = 64  # vertices of a curve


@cache
def outline(shape: str) -> Outline:
    """The polygon of a shape; raises `KeyError` for a shape that the world lacks."""
    return SHAPES[shape]()


def _arc(radius: float, start: float, end: float, x: float = 0, y: float = 0) -> list[Point]:
    """Points of a circle from one angle to another, in turns clockwise from the right."""
    angles = [2 * pi * (start + (end - start) * i / _FINE) for i in range(_FINE + 1)]
    return [(x + radius * cos(angle), y + radius * sin(angle)) for angle in angles]


def _spikes(count: int, inner: float) -> Outline:
    """A star whose first spike points up."""
    radii = [1.0 if i % 2 == 0 else inner for i in range(2 * count)]
    turns = [pi * i / count - pi / 2 for i in range(2 * count)]
    return tuple((r * cos(t), r * sin(t)) for r, t in zip(radii, turns, strict=True))


def _circle() -> Outline:
    return tuple(_arc(1, 0, 1))


def _square() -> Outline:
    return (-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)


def _triangle() -> Outline:
    return (0, -0.95), (1, 0.8), (-1, 0.8)


def _star() -> Outline:
    return _spikes(5, 0.45)


def _diamond() -> Outline:
    return (0, -1), (0.72, 0), (0, 1), (-0.72, 0)


def _cross() -> Outline:
    a = 0.34
    return (
        *((-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a)),
        *((a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)),
    )


def _ring() -> Outline:
    """One closed line: the outer circle, across, and the inner circle backwards."""
    return (*_arc(1, 0, 1), *_arc(0.52, 1, 0))


def _heart() -> Outline:
    turns = [2 * pi * i / _FINE for i in range(_FINE)]
    return tuple(
        (
            sin(t) ** 3,
            -(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)) / 16 - 0.1,
        )
        for t in turns
    )


def _moon() -> Outline:
    """A crescent that opens to the right."""
    horn = hypot(0.35, 0.94)
    start = 0.194  # where the two circles meet, in turns
    return (*_arc(1, start, 1 - start), *_arc(horn * 0.83, 0.745, 0.255, x=0.42))


def _sun() -> Outline:
    return _spikes(10, 0.66)


def _flower() -> Outline:
    """Five petals around a centre that shows the background."""
    petals = [
        (
            (0.68 + 0.32 * cos(5 * t)) * sin(t),
            -(0.68 + 0.32 * cos(5 * t)) * cos(t),
        )
        for t in (2 * pi * i / (2 * _FINE) for i in range(2 * _FINE + 1))
    ]
    hole = [(0.2 * sin(t), -0.2 * cos(t)) for t in (-2 * pi * i / _FINE for i in range(_FINE + 1))]
    return (*petals, *hole)


def _vase() -> Outline:
    side = [(0.34, -1), (0.24, -0.55), (0.56, -0.1), (0.66, 0.3), (0.52, 0.75), (0.36, 1)]
    return (*side, *((-x, y) for x, y in reversed(side)))


def _house() -> Outline:
    """A wall with a door that shows the background."""
    wall, door, lintel = 0.9, 0.22, 0.1
    return (
        *((-wall, -0.8), (wall, -0.8), (wall, 0.9), (door, 0.9)),
        *((door, lintel), (-door, lintel), (-door, 0.9), (-wall, 0.9)),
    )


def _crown() -> Outline:
    """The leaves of a tree: seven bumps."""
    radius = [0.86 + 0.14 * cos(7 * 2 * pi * i / (2 * _FINE)) for i in range(2 * _FINE)]
    turns = [2 * pi * i / (2 * _FINE) for i in range(2 * _FINE)]
    return tuple((r * sin(t), -r * cos(t)) for r, t in zip(radius, turns, strict=True))


def _trunk() -> Outline:
    return (-1, -1), (1, -1), (1, 1), (-1, 1)


SHAPES: dict[str, Callable[[], Outline]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "diamond": _diamond,
    "cross": _cross,
    "ring": _ring,
    "moon": _moon,
    "sun": _sun,
    "vase": _vase,
    "flower": _flower,
    "house": _house,
    "tree": _crown,
    "trunk": _trunk,
}
