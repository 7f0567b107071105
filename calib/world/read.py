"""Reads a picture of the world back: what is there, in which colour, where and how large."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .match import OTHER, recognise
from .segment import LEAST, Mask, Patch, segment

_THIN = (1, 2)  # half widths of the bridges between things that touch, pixels
_EDGE = np.ones((5, 5), bool)  # what resembles nothing and nowhere fills this is a blurred edge


@dataclass(frozen=True)
class Item:
    """A thing in a picture.

    Attributes:
        colour: A key of `palette.COLOURS`, or of `palette.BACKGROUNDS` for a patch of a background
            that is not the picture's.
        shape: A key of `shapes.SHAPES`, or `match.OTHER`.
        x: The middle of its bounding box, pixels from the left.
        y: The middle of its bounding box, pixels from the top.
        width: Of its bounding box, pixels.
        height: Of its bounding box, pixels.
        area: Pixels that it covers.
    """

    colour: str
    shape: str
    x: float
    y: float
    width: int
    height: int
    area: int


@dataclass(frozen=True)
class Reading:
    """What a picture shows: the name of its background, and what is on it from the top down."""

    background: str
    items: tuple[Item, ...]


def read(image: NDArray[np.uint8]) -> Reading:
    """Reads a picture, without knowledge of its caption.

    Args:
        image: 8-bit RGB of shape `(SIZE, SIZE, 3)`.

    Raises:
        ValueError: The array has another shape or dtype.
    """
    background, patches = segment(image)
    items = [item for patch in patches for item in _items(patch)]
    return Reading(background, tuple(sorted(items, key=lambda each: (each.y, each.x))))


def _items(patch: Patch) -> Iterator[Item]:
    """The one thing that a patch is, or the several of one shape that touch in it."""
    shape = recognise(patch.cover)
    if shape != OTHER:
        yield _item(patch, shape)
        return
    for thin in _THIN:
        pieces = _pieces(patch, thin)
        shapes = {recognise(piece.cover) for piece in pieces}
        if len(pieces) > 1 and len(shapes) == 1 and OTHER not in shapes:
            yield from (_item(piece, *shapes) for piece in pieces)
            return
    if ndimage.binary_erosion(patch.cover > 0, _EDGE).any():
        yield _item(patch, OTHER)


def _pieces(patch: Patch, thin: int) -> list[Patch]:
    """What a patch falls into where it is thin; every pixel goes to the nearest piece."""
    square = np.ones((2 * thin + 1,) * 2, bool)
    inside: Mask = ndimage.binary_erosion(patch.cover > 0, square)
    parts, count = ndimage.label(inside, np.ones((3, 3), bool))
    if count < 2:
        return []
    rows, columns = ndimage.distance_transform_edt(
        parts == 0, return_distances=False, return_indices=True
    )
    owners = np.where(patch.cover > 0, parts[rows, columns], 0)
    pieces = []
    for number, box in enumerate(ndimage.find_objects(owners), 1):
        cover = np.where(owners[box] == number, patch.cover[box], 0)
        top, left = patch.top + box[0].start, patch.left + box[1].start
        pieces.append(Patch(patch.colour, top, left, cover))
    return [each for each in pieces if np.count_nonzero(each.cover) >= LEAST]


def _item(patch: Patch, shape: str) -> Item:
    height, width = patch.cover.shape
    return Item(
        colour=patch.colour,
        shape=shape,
        x=patch.left + width / 2,
        y=patch.top + height / 2,
        width=width,
        height=height,
        area=int(np.count_nonzero(patch.cover)),
    )
