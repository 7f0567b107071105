"""A sheet of pictures for people: a caption, and beside it what each form of a model drew."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_CAPTION = 250  # pixels of width for a caption
_LETTERS = 36  # of a caption on a line
_HEAD = 40  # pixels of height for the names of the columns


def picture_sheet(
    captions: Sequence[str], pictures: Mapping[str, NDArray[np.uint8]], *, across: int = 1
) -> Image.Image:
    """Draws captions with their pictures, a row per caption or several captions to a row.

    Args:
        captions: The captions, in the order of the pictures.
        pictures: Name of a column to its pictures, `(at least as many as captions, height, width,
            3)`, 8-bit; all of one size.
        across: How many captions stand beside one another.
    """
    height, width = next(iter(pictures.values())).shape[1:3]
    group, rows = _CAPTION + width * len(pictures), -(-len(captions) // across)
    sheet = Image.new("RGB", (group * across, _HEAD + height * rows), "white")
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for left in range(0, group * across, group):
        for column, name in enumerate(pictures):
            place = (left + _CAPTION + column * width + 4, 4)
            canvas.text(place, name.replace(", ", ",\n"), fill="black", font=font)
    for index, caption in enumerate(captions):
        left, top = group * (index // rows), _HEAD + height * (index % rows)
        text = "\n".join(textwrap.wrap(caption, _LETTERS))
        canvas.text((left + 6, top + height // 3), text, fill="black", font=font)
        for column, drawn in enumerate(pictures.values()):
            place = (left + _CAPTION + column * width, top)
            sheet.paste(Image.fromarray(drawn[index]), place)
    return sheet
