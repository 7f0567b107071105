"""The arithmetic of the weight formats: what is stored of a weight, and what it is after that.

The backends write what these functions give, and the simulation of a recipe computes with
`rounded`, so the two agree bit for bit. Weights come as modules have them: output channels first,
input channels second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .formats import Format, block_size, palette_count
from .kmeans import palette_of

Floats = NDArray[np.float32]
Integers = NDArray[np.int8]

# Largest finite number of float8 e4m3fn, and its smallest normal exponent (arXiv 2209.05433).
FLOAT8_LARGEST, _FLOAT8_LEAST_EXPONENT, _FLOAT8_FRACTION = 448.0, -6, 3
_LEAST = np.finfo(np.float32).tiny
# Shares of the largest magnitude that four bits may reach to; the nearest to the weights is taken.
_CLIPS = (1.0, 0.925, 0.85, 0.775)


def integer_channels(weight: Floats) -> tuple[Integers, Floats]:
    """Symmetric 8-bit integers with a scale per output channel.

    Returns:
        The integers, -127 to 127, in the shape of `weight`, and the scales, `(outputs,)`.
    """
    peaks = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    scales = _scales(peaks, 127)
    spread = scales.reshape(-1, *[1] * (weight.ndim - 1))
    return np.rint(weight / spread).astype(np.int8), scales


def integer_blocks(weight: Floats) -> tuple[Integers, Floats]:
    """Symmetric 4-bit integers with a scale per block of input channels.

    Returns:
        The integers, -7 to 7, in the shape of `weight`, and the scales: the shape of `weight` with
        one entry per block on the second axis.
    """
    size = block_size(weight.shape)
    outputs, inputs, *kernel = weight.shape
    blocks = weight.reshape(outputs, inputs // size, size, *kernel)
    peaks = np.abs(blocks).max(axis=2)
    best = np.zeros(blocks.shape, np.int8)
    scales, least = np.ones_like(peaks), np.full(peaks.shape, np.inf, np.float32)
    for clip in _CLIPS:
        tried = _scales(peaks * np.float32(clip), 7)
        codes = np.clip(np.rint(blocks / tried[:, :, None]), -7, 7)
        error = np.square(codes * tried[:, :, None] - blocks).sum(axis=2)
        better = error < least
        least = np.where(better, error, least)
        scales = np.where(better, tried, scales)
        np.copyto(best, codes.astype(np.int8), where=better[:, :, None])
    return best.reshape(weight.shape), scales


def float8(weight: Floats) -> tuple[Floats, np.float32]:
    """Numbers that float8 e4m3fn has, and the scale that they are multiplied by.

    Returns:
        The numbers, float32, in the shape of `weight`, at most 448 in magnitude; and the scale.
    """
    scale = _scales(np.abs(weight).max(keepdims=True).reshape(1), FLOAT8_LARGEST)[0]
    return to_float8(weight / scale), scale


def to_float8(values: Floats) -> Floats:
    """The nearest number of float8 e4m3fn, ties to even, beyond the largest that one; float32."""
    bounded = np.clip(values, -FLOAT8_LARGEST, FLOAT8_LARGEST)
    exponents = np.maximum(np.frexp(bounded)[1] - 1, _FLOAT8_LEAST_EXPONENT)
    whole = np.rint(np.ldexp(bounded, _FLOAT8_FRACTION - exponents))
    result: Floats = np.ldexp(whole, exponents - _FLOAT8_FRACTION).astype(np.float32)
    return result


def palettes(
    form: Format, weight: NDArray[np.float16]
) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Palettes of a weight, one or one per group of output channels.

    Returns:
        The palettes, `(palettes, 2**bits)`, and the index of each weight, in its shape.
    """
    parts = np.split(weight, palette_count(form, weight.shape), axis=0)
    clustered = [palette_of(part, 2**form.bits) for part in parts]
    return np.stack([each for each, _ in clustered]), np.concatenate(
        [each for _, each in clustered]
    )


def kept(form: Format, weight: NDArray[np.float16]) -> NDArray[np.bool_]:
    """Which weights a sparse format stores: the larger ones, in the shape of `weight`."""
    count = round(weight.size * (1 - form.sparse))
    magnitudes = np.abs(weight).reshape(-1)
    mask = np.zeros(weight.size, np.bool_)
    # Stable, so that equal magnitudes are kept in the order of the weights.
    mask[np.argsort(-magnitudes, kind="stable")[:count]] = True
    return mask.reshape(weight.shape)


def rounded(form: Format, weight: Floats) -> Floats:
    """What a weight is once it was stored in a format, float32 in the shape of `weight`."""
    if form.kind == "float":
        return weight
    if form.kind == "integer":
        if not form.blocked:
            codes, scales = integer_channels(weight)
            return codes.astype(np.float32) * scales.reshape(-1, *[1] * (weight.ndim - 1))
        codes, scales = integer_blocks(weight)
        return codes.astype(np.float32) * np.repeat(scales, block_size(weight.shape), axis=1)
    if form.kind == "float8":
        values, scale = float8(weight)
        return values * scale
    half = weight.astype(np.float16)
    if form.sparse:
        result, mask = np.zeros(weight.shape, np.float32), kept(form, half)
        colours, indices = palette_of(half[mask], 2**form.bits)
        result[mask] = colours[indices]
        return result
    tables, indices = palettes(form, half)
    parts = np.split(indices, len(tables), axis=0)
    unpacked = [own[part] for own, part in zip(tables, parts, strict=True)]
    return np.concatenate(unpacked).astype(np.float32)


def _scales(peaks: Floats, steps: float) -> Floats:
    """Scales with which `peaks` are `steps`; 1 where all weights are zero, or nearly."""
    scales = (peaks / np.float32(steps)).astype(np.float32)
    # Numbers below the smallest normal one have too few digits to divide by.
    return np.where(scales >= _LEAST, scales, np.float32(1.0)).astype(np.float32)
