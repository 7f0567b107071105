"""Paints a scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .palette import BACKGROUNDS, COLOURS, second_tone
from .scene import SIZE, Part, Scene
from .shapes import outline

_FINER = 4  # painted this many times larger, then averaged, for smooth edges
_PERIOD = 16  # of a texture, pixels
_STEM = 2.5  # width, pixels


def paint(scene: Scene) -> NDArray[np.uint8]:
    """The picture of a scene, `(SIZE, SIZE, 3)`, 8-bit RGB."""
    ground = _background(scene.background, scene.texture)
    image = Image.fromarray(ground).resize((SIZE * _FINER,) * 2, Image.Resampling.NEAREST)
    canvas = ImageDraw.Draw(image)
    for stem in scene.stems:
        line = [each * _FINER for each in (stem.x1, stem.y1, stem.x2, stem.y2)]
        canvas.line(line, fill=COLOURS["green"], width=round(_STEM * _FINER))
    for part in scene.parts:
        _paint_part(canvas, part)
    return np.asarray(image.reduce(_FINER))


def _paint_part(canvas: ImageDraw.ImageDraw, part: Part) -> None:
    points = [
        ((part.x + x * part.width) * _FINER, (part.y + y * part.height) * _FINER)
        for x, y in outline(part.shape)
    ]
    canvas.polygon(points, fill=COLOURS[part.colour])


def _background(name: str, texture: str) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    half = _PERIOD // 2
    second: NDArray[np.bool_]
    if texture == "plain":
        second = np.zeros((SIZE, SIZE), bool)
    elif texture == "striped":
        second = rows % _PERIOD >= half
    elif texture == "checkered":
        second = (rows // half + columns // half) % 2 == 1
    elif texture == "dotted":
        away = (rows % _PERIOD - half + 0.5) ** 2 + (columns % _PERIOD - half + 0.5) ** 2
        second = away < 4.5**2
    else:
        raise ValueError(f"no texture {texture!r}")
    tones = np.array([BACKGROUNDS[name], second_tone(name)], np.uint8)
    picture: NDArray[np.uint8] = tones[second.astype(np.int64)]
    return picture
