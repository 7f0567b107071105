"""Names beside the points of a plot, where they cover neither points nor each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Distances from the point in pixels of the picture, the near ones first, and directions, tried in
# this order: above, below, right, left, and between them.
_DISTANCES = (12, 20, 30, 42, 56, 72, 90, 110)
_ANGLES = (90, 270, 0, 180, 45, 135, 315, 225)
# A name farther away than this gets a line to its point.
_NEAR = 16
# Half the side of the square that a point takes.
_POINT = 5


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the picture."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area that two boxes share."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def inside(self, other: Box) -> bool:
        """Whether the other box contains this one."""
        return (
            self.left >= other.left
            and self.bottom >= other.bottom
            and self.right <= other.right
            and self.top <= other.top
        )


def place(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], frame: Box
) -> list[tuple[float, float]]:
    """Centres for names, one after the other at the nearest place that is free.

    Where no place is free, the one that covers least is taken.

    Args:
        points: What the names belong to, in pixels.
        sizes: Width and height of each name, in pixels.
        frame: Where names may be.
    """
    taken = [Box(x - _POINT, y - _POINT, x + _POINT, y + _POINT) for x, y in points]
    centres = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        tried = [_centre(x, y, width, height, d, a) for d in _DISTANCES for a in _ANGLES]
        boxes = [_around(centre, width, height) for centre in tried]
        covered = [
            sum(box.overlap(other) for other in taken) if box.inside(frame) else math.inf
            for box in boxes
        ]
        best = covered.index(min(covered))
        centres.append(tried[best])
        taken.append(boxes[best])
    return centres


def annotate(axes: Any, names: Sequence[str], xs: Any, ys: Any, colours: Sequence[str]) -> None:
    """Writes a name beside each point of a matplotlib plot whose limits and layout are final."""
    points = [tuple(each) for each in axes.transData.transform(list(zip(xs, ys, strict=True)))]
    texts = [
        axes.annotate(name, (x, y), ha="center", va="center", fontsize=7.5, color=colour)
        for name, x, y, colour in zip(names, xs, ys, colours, strict=True)
    ]
    extents = [text.get_window_extent() for text in texts]
    edge = axes.get_window_extent()
    sizes = [(each.width, each.height) for each in extents]
    centres = place(points, sizes, Box(edge.x0, edge.y0, edge.x1, edge.y1))
    to_data = axes.transData.inverted()
    for text, point, centre in zip(texts, points, centres, strict=True):
        text.set_position(to_data.transform(centre))
        if math.dist(point, centre) > _NEAR + text.get_window_extent().width / 2:
            (x0, y0), (x1, y1) = to_data.transform([point, centre])
            axes.plot([x0, x1], [y0, y1], color=text.get_color(), linewidth=0.5, alpha=0.5)


def _centre(
    x: float, y: float, width: float, height: float, distance: float, angle: float
) -> tuple[float, float]:
    """The centre of a name whose near edge is so far from its point in a direction."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return x + cosine * (distance + width / 2), y + sine * (distance + height / 2 - 4)


def _around(centre: tuple[float, float], width: float, height: float) -> Box:
    x, y = centre
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
