"""What a picture of the world is made of, and what its caption promises."""

from __future__ import annotations

from dataclasses import dataclass

SIZE = 128  # pixels, both sides


@dataclass(frozen=True)
class Part:
    """A shape on the canvas.

    Attributes:
        shape: Its outline, a key of `shapes.SHAPES`.
        colour: Its colour, a key of `palette.COLOURS`.
        x: Its middle, pixels from the left.
        y: Its middle, pixels from the top.
        width: What its outline's -1 to 1 is scaled by, in pixels; at least half of its width.
        height: The same downwards.
    """

    shape: str
    colour: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Stem:
    """A thin green line; too thin for the reader to see as a part."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Group:
    """Things of one kind that a caption names.

    Attributes:
        count: How many.
        colour: Their colour.
        shape: Their shape.
        size: `small` or `big`, or None where the caption does not say.
        zone: Column and row of a three by three grid, or None where the caption does not say.
    """

    count: int
    colour: str
    shape: str
    size: str | None = None
    zone: tuple[int, int] | None = None


@dataclass(frozen=True)
class Relation:
    """Where the first group lies as seen from the second: `above`, `below`, `left` or `right`."""

    first: int
    place: str
    second: int


@dataclass(frozen=True)
class Scene:
    """A caption, what it promises, and one picture of it.

    Attributes:
        caption: The text.
        groups: What the caption names.
        relations: How the groups lie to each other.
        background: Name of the background.
        texture: One of `palette.TEXTURES`.
        parts: What is painted, later ones on top.
        stems: What is painted below the parts.
        extras: Colours that may appear although no group has them, such as a trunk's brown.
    """

    caption: str
    groups: tuple[Group, ...]
    relations: tuple[Relation, ...]
    background: str
    texture: str
    parts: tuple[Part, ...]
    stems: tuple[Stem, ...] = ()
    extras: tuple[str, ...] = ()
