"""When guidance costs a second U-Net row."""

from __future__ import annotations


def is_guided(guidance: float, guidance_size: int | None) -> bool:
    """Whether a guidance scale takes two U-Net rows per image, by the rule of diffusers.

    Args:
        guidance: The scale.
        guidance_size: Size of the guidance embedding of a U-Net that takes the scale itself, or
            None.
    """
    return guidance > 1.0 and guidance_size is None
