"""Pictures and heat maps as data that an HTML file carries itself."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Dark to bright (inferno of matplotlib, by Stéfan van der Walt and Nathaniel Smith, CC0): readable
# in print and by people who do not tell red from green.
_HEAT = np.array(
    [(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)],
    dtype=np.float32,
)
# Levels of 255 that are always bright: where a picture is off by less, that is noise.
LEAST_SCALE = 8


def data_uri(picture: NDArray[np.uint8]) -> str:
    """An 8-bit RGB picture, `(height, width, 3)`, as a `data:` address of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def heat_map(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Where two 8-bit pictures differ.

    Args:
        ours: `(height, width, 3)`.
        theirs: The same shape.

    Returns:
        A picture of that size, dark where they are equal, and the difference of a channel, in
        levels of 255, that is drawn brightest: the largest, at least `LEAST_SCALE`.
    """
    levels = np.abs(ours.astype(np.int16) - theirs.astype(np.int16)).max(axis=2)
    scale = max(int(levels.max()), LEAST_SCALE)
    place = levels.astype(np.float32) / scale * (len(_HEAT) - 1)
    lower = np.minimum(place.astype(np.int64), len(_HEAT) - 2)
    share = (place - lower)[..., np.newaxis]
    colours = _HEAT[lower] * (1 - share) + _HEAT[lower + 1] * share
    return np.rint(colours).astype(np.uint8), scale
