"""Scores pictures by what their captions promise: the world's stand-in for FID and CLIP score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from .read import Item, Reading, read
from .scene import SIZE, Group, Relation, Scene

SMALL = 34  # pixels; the longer side of what a caption calls small stays below
BIG = 40  # pixels; the longer side of what a caption calls big stays above
_APART = 4  # pixels between two middles from which one counts as above, below, left or right


@dataclass(frozen=True)
class Verdict:
    """Which promises of a caption a picture keeps; None where the caption makes no such promise.

    The texture of the background is not judged.

    Attributes:
        colour: Every group's colour is there.
        shape: Everything of a group's colour has the group's shape, and something is there.
        count: Of every group's colour there are as many as the caption says, and nothing else is
            there but the scene's extras.
        position: Every group lies in its zone, a third of the picture each way, and where its
            relations say.
        size: Everything of a group's colour is as small or big as the caption says.
        background: It has the colour that the caption names.
    """

    colour: bool
    shape: bool
    count: bool
    position: bool | None
    size: bool | None
    background: bool

    @property
    def exact(self) -> bool:
        """Whether every promise is kept."""
        return False not in asdict(self).values()


@dataclass(frozen=True)
class Scores:
    """How well a set of pictures keeps to its captions.

    Attributes:
        captions: How many pictures were judged.
        colour: Fraction of the pictures with the right colours, 0 to 1; all of these as `Verdict`
            defines them.
        shape: Fraction with the right shapes.
        count: Fraction with the right number of everything.
        position: Of the captions that say where things lie, the fraction whose picture has them
            there; None where no caption says so.
        size: Of the captions that say how large something is, the fraction whose picture has it so
            large; None where no caption says so.
        background: Fraction with the right background.
        exact: Fraction of the pictures that keep every promise.
        overall: Mean of the attributes' fractions, those that are not None.
    """

    captions: int
    colour: float
    shape: float
    count: float
    position: float | None
    size: float | None
    background: float
    exact: float
    overall: float

    def rates(self) -> dict[str, float]:
        """The rates by name, without those that no caption asked for."""
        figures = asdict(self)
        del figures["captions"]
        return {name: rate for name, rate in figures.items() if rate is not None}

    def to_json(self) -> dict[str, int | float | None]:
        """The figures by name."""
        return asdict(self)


def judge(scene: Scene, image: NDArray[np.uint8]) -> Verdict:
    """Whether a picture shows what a scene's caption promises; nothing else of it is looked at.

    Args:
        scene: Where the promises come from: its groups, relations, background and extras.
        image: 8-bit RGB of shape `(SIZE, SIZE, 3)`.

    Raises:
        ValueError: The array has another shape or dtype.
    """
    reading = read(image)
    found = [
        (group, [item for item in reading.items if item.colour == group.colour])
        for group in scene.groups
    ]
    return Verdict(
        colour=all(items for _, items in found),
        shape=all(_all(item.shape == group.shape for item in items) for group, items in found),
        count=_counts(scene, reading, found),
        position=_positions(scene, found),
        size=_sizes(found),
        background=reading.background == scene.background,
    )


def summarize(verdicts: Iterable[Verdict]) -> Scores:
    """The rates of a set of verdicts.

    Raises:
        ValueError: There are no verdicts.
    """
    judged = list(verdicts)
    if not judged:
        raise ValueError("no verdicts to summarize")
    places = [each.position for each in judged if each.position is not None]
    sizes = [each.size for each in judged if each.size is not None]
    always = {
        name: fmean(getattr(each, name) for each in judged)
        for name in ("colour", "shape", "count", "background")
    }
    position = fmean(places) if places else None
    size = fmean(sizes) if sizes else None
    known = [rate for rate in (*always.values(), position, size) if rate is not None]
    return Scores(
        captions=len(judged),
        **always,
        position=position,
        size=size,
        exact=fmean(each.exact for each in judged),
        overall=fmean(known),
    )


# Every group with the items of its colour.
_Found = list[tuple[Group, list[Item]]]


def _all(checks: Iterable[bool]) -> bool:
    """Whether all hold; of nothing no promise holds."""
    results = list(checks)
    return bool(results) and all(results)


def _counts(scene: Scene, reading: Reading, found: _Found) -> bool:
    named = {*scene.extras, *(group.colour for group in scene.groups)}
    strangers = any(item.colour not in named for item in reading.items)
    return not strangers and all(len(items) == group.count for group, items in found)


def _positions(scene: Scene, found: _Found) -> bool | None:
    zones = [_all(_zone(i) == group.zone for i in items) for group, items in found if group.zone]
    relations = [_holds(relation, found) for relation in scene.relations]
    checks = zones + relations
    return all(checks) if checks else None


def _sizes(found: _Found) -> bool | None:
    checks = [_all(_fits(group.size, i) for i in items) for group, items in found if group.size]
    return all(checks) if checks else None


def _zone(item: Item) -> tuple[int, int]:
    return int(3 * item.x / SIZE), int(3 * item.y / SIZE)


def _holds(relation: Relation, found: _Found) -> bool:
    first, second = found[relation.first][1], found[relation.second][1]
    if not first or not second:
        return False
    right = fmean(item.x for item in first) - fmean(item.x for item in second)
    down = fmean(item.y for item in first) - fmean(item.y for item in second)
    by = {"left": -right, "right": right, "above": -down, "below": down}
    return by[relation.place] > _APART


def _fits(size: str, item: Item) -> bool:
    side = max(item.width, item.height)
    return side < SMALL if size == "small" else side > BIG
