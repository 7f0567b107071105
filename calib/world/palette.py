"""The colours of the world by name, 8-bit RGB, and which go together."""

from __future__ import annotations

import math

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (214, 38, 48),
    "orange": (244, 132, 28),
    "yellow": (250, 212, 40),
    "green": (38, 150, 66),
    "blue": (40, 86, 206),
    "purple": (132, 54, 170),
    "pink": (242, 128, 184),
    "brown": (116, 68, 36),
    "black": (24, 24, 26),
    "white": (252, 252, 252),
}

BACKGROUNDS: dict[str, RGB] = {
    "white": (252, 252, 252),
    "grey": (168, 172, 178),
    "cream": (240, 226, 192),
    "mint": (176, 226, 190),
    "lavender": (202, 188, 236),
    "teal": (60, 164, 164),
    "navy": (22, 36, 84),
    "black": (24, 24, 26),
}

TEXTURES = ("plain", "striped", "dotted", "checkered")

_CONTRAST = 100.0  # least distance in RGB between a shape and its background
_TONE = 16  # how much the second tone of a texture differs, per channel


def second_tone(background: str) -> RGB:
    """The other tone of a textured background: darker, or lighter where it is dark already."""
    colour = BACKGROUNDS[background]
    step = _TONE if sum(colour) < 300 else -_TONE
    red, green, blue = (channel + step for channel in colour)
    return red, green, blue


def colours_on(background: str) -> tuple[str, ...]:
    """The colours that stand out from a background, or from a picture filled with a colour."""
    ground = {**COLOURS, **BACKGROUNDS}[background]
    return tuple(name for name, colour in COLOURS.items() if math.dist(colour, ground) >= _CONTRAST)
