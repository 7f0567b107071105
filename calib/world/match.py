"""Names the shape of a patch by comparing it with every shape of the world."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from .paint import paint
from .scene import SIZE, Part, Scene
from .segment import Cover, segment
from .shapes import SHAPES

OTHER = "other"  # resembles no shape of the world

# Least agreement with the best template; a shape whose outline wobbles by a pixel reaches it, and
# seven of ten random blobs do not.
_LIKENESS = 0.75
_CELLS = 24  # to a side of the grid that patches are scaled to
_SPAN = 2.3  # half a side of the grid in standard deviations of the pixels' positions
_ASPECT = 0.5  # how much a different ratio of width to height counts
_BLURS = (0.0, 0.8, 1.6)  # of the templates, pixels: a picture that a model drew is rarely sharp
_INK, _PAPER = "purple", "grey"  # of the templates: no other colour lies between these two

_Sides = tuple[tuple[float, float], ...]
_SQUARE: _Sides = ((11, 11), (14, 14), (20, 20), (28, 28))
# Half widths and heights that captions draw; `_SQUARE` for what is not listed.
_SIDES: dict[str, _Sides] = {
    "triangle": ((33, 20), *_SQUARE),
    "moon": ((15, 15), (16, 16)),
    "sun": ((15, 15), (16, 16)),
    "vase": ((29, 29),),
    "flower": ((14, 14),),
    "house": ((27, 27),),
    "tree": ((21, 21), (30, 30)),
    "trunk": ((5, 12), (4, 12.5)),
}


def recognise(cover: Cover) -> str:
    """The shape that a patch resembles most, or `OTHER` where it resembles none enough.

    Patch and templates are scaled to one grid by the mean and the standard deviation of their
    pixels' positions, which a stray pixel moves less than the edges of a bounding box. They agree
    by the area that they share over the area that either covers (for partly covered pixels the
    Tanimoto coefficient), less a penalty where the ratios of width to height differ.

    Args:
        cover: How much of every pixel of its bounding box the patch covers, 0 to 1.
    """
    names, grids, areas, aspects = _templates()
    grid, aspect = _normalised(cover)
    shared = grids @ grid
    scores = shared / (areas + grid @ grid - shared)
    scores *= np.exp(-_ASPECT * np.abs(aspects - aspect))
    best = int(scores.argmax())
    return names[best] if scores[best] >= _LIKENESS else OTHER


_Templates = tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


@cache
def _templates() -> _Templates:
    """Of every template the shape's name, the grid, its area and the aspect.

    Templates go the same way as any picture: they are painted and taken apart.
    """
    names, grids, aspects = [], [], []
    for shape in SHAPES:
        for width, height in _SIDES.get(shape, _SQUARE):
            part = Part(shape, _INK, SIZE / 2, SIZE / 2, width, height)
            picture = paint(Scene("", (), (), _PAPER, "plain", (part,)))
            for blur in _BLURS:
                blurred = ndimage.gaussian_filter(picture.astype(np.float32), (blur, blur, 0))
                _, (patch,) = segment(blurred.round().astype(np.uint8))
                grid, aspect = _normalised(patch.cover)
                names.append(shape)
                grids.append(grid)
                aspects.append(aspect)
    stacked = np.array(grids)
    return tuple(names), stacked, (stacked**2).sum(1), np.array(aspects, np.float32)


def _normalised(cover: Cover) -> tuple[NDArray[np.float32], float]:
    """A patch on the grid, flat, 0 to 1, and the logarithm of its width over its height."""
    (x, across), (y, down) = _moments(cover.sum(0)), _moments(cover.sum(1))
    # The grid may reach beyond the bounding box, by no more than one span.
    margin = math.ceil(_SPAN * max(across, down))
    image = Image.fromarray(np.pad(cover, margin))
    left, top = x + margin - _SPAN * across, y + margin - _SPAN * down
    box = (left, top, left + 2 * _SPAN * across, top + 2 * _SPAN * down)
    grid = image.resize((_CELLS, _CELLS), Image.Resampling.BILINEAR, box=box)
    return np.asarray(grid, np.float32).ravel(), math.log(across / down)


def _moments(weights: Cover) -> tuple[float, float]:
    """Mean and standard deviation of the positions 0.5, 1.5 … that weigh so much."""
    positions = np.arange(len(weights)) + 0.5
    share = weights / weights.sum()
    mean = float(share @ positions)
    # A pixel is as wide as 1; without that a line of pixels would have no width at all.
    return mean, math.sqrt(float(share @ (positions - mean) ** 2) + 1 / 12)
