"""Channels and batch into space and back; sampling at other sizes (MIL's image_resizing.py)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...core.errors import RunError, choices
from .ops_conv import flat
from .values import integers


def _depth_to_space(x: Tensor, block_size: Tensor) -> Tensor:
    # Blocks vary slower than channels, as in TensorFlow, whose operation this stands for.
    n, c, h, w = x.shape
    b = int(block_size)
    parts = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // (b * b), h * b, w * b)


def _space_to_depth(x: Tensor, block_size: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = int(block_size)
    parts = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * b * b, h // b, w // b)


def _pixel_shuffle(x: Tensor, upscale_factor: Tensor) -> Tensor:
    return functional.pixel_shuffle(x, int(upscale_factor))


def _pixel_unshuffle(x: Tensor, downscale_factor: Tensor) -> Tensor:
    return functional.pixel_unshuffle(x, int(downscale_factor))


def _space_to_batch(x: Tensor, block_shape: Tensor, paddings: Tensor) -> Tensor:
    high, wide = integers(block_shape)
    top, bottom, left, right = integers(paddings)
    x = functional.pad(x, flat([(top, bottom), (left, right)]))
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // high, high, w // wide, wide).permute(3, 5, 0, 1, 2, 4)
    return parts.reshape(n * high * wide, c, h // high, w // wide)


def _batch_to_space(x: Tensor, block_shape: Tensor, crops: Tensor) -> Tensor:
    high, wide = integers(block_shape)
    top, bottom, left, right = integers(crops)
    n, c, h, w = x.shape
    parts = x.reshape(high, wide, n // (high * wide), c, h, w).permute(2, 3, 4, 0, 5, 1)
    whole = parts.reshape(n // (high * wide), c, h * high, w * wide)
    return whole[:, :, top : h * high - bottom, left : w * wide - right]


def _grid(size: int, wanted: int, mode: str) -> Tensor:
    """Where the samples lie in an input of `size`, by the formulas of MIL's `resize_bilinear`."""
    step = torch.arange(wanted, dtype=torch.float64)
    corners = step * ((size - 1) / (wanted - 1) if wanted > 1 else 0.0)
    middle = torch.tensor([(size - 1) / 2], dtype=torch.float64)
    delta = max(1, size - 1) / wanted
    grids = {
        "DEFAULT": step * (size / wanted),
        "STRICT_ALIGN_CORNERS": corners,
        "ALIGN_CORNERS": corners if wanted > 1 else middle,
        "OFFSET_CORNERS": (step + 0.5) * delta,
        "UNALIGN_CORNERS": (step + 0.5) * (size / wanted) - 0.5,
    }
    if mode not in grids:
        raise RunError(f"There is no sampling mode '{mode}', only {choices(grids)}.")
    return grids[mode].clamp(0, size - 1)


def _linear(x: Tensor, axis: int, wanted: int, mode: str) -> Tensor:
    grid = _grid(x.shape[axis], wanted, mode)
    low = grid.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    weight = (grid - low).to(x.dtype).reshape([-1] + [1] * (-axis - 1))
    return torch.lerp(x.index_select(axis, low), x.index_select(axis, high), weight)


def _nearest(x: Tensor, axis: int, wanted: int) -> Tensor:
    size = x.shape[axis]
    return x.index_select(axis, torch.arange(wanted) * size // wanted)


def _scaled(x: Tensor, height: Tensor, width: Tensor) -> tuple[int, int]:
    """Sizes by factors; the product is a float32's as in coremltools, then cut."""
    tall, wide = x.shape[-2:]
    return math.floor(float(height * tall)), math.floor(float(width * wide))


def _upsample_nearest(x: Tensor, scale_factor_height: Tensor, scale_factor_width: Tensor) -> Tensor:
    tall, wide = _scaled(x, scale_factor_height, scale_factor_width)
    return _nearest(_nearest(x, -2, tall), -1, wide)


def _resize_nearest(x: Tensor, target_size_height: Tensor, target_size_width: Tensor) -> Tensor:
    return _nearest(_nearest(x, -2, int(target_size_height)), -1, int(target_size_width))


def _upsample_bilinear(
    x: Tensor,
    scale_factor_height: Tensor,
    scale_factor_width: Tensor,
    align_corners: Tensor,
    half_pixel_centers: Tensor | None = None,
) -> Tensor:
    aligned = bool(align_corners)
    half = not aligned if half_pixel_centers is None else bool(half_pixel_centers)
    if aligned and half:
        raise RunError("upsample_bilinear takes aligned corners or half pixel centres, not both.")
    unaligned = "UNALIGN_CORNERS" if half else "DEFAULT"
    mode = "STRICT_ALIGN_CORNERS" if aligned else unaligned
    tall, wide = _scaled(x, scale_factor_height, scale_factor_width)
    return _linear(_linear(x, -2, tall, mode), -1, wide, mode)


def _resize_bilinear(
    x: Tensor, target_size_height: Tensor, target_size_width: Tensor, sampling_mode: str
) -> Tensor:
    tall = _linear(x, -2, int(target_size_height), sampling_mode)
    return _linear(tall, -1, int(target_size_width), sampling_mode)


def _resize(
    x: Tensor, shape: Tensor, resized_dims: Tensor, interpolation_mode: str, sampling_mode: str
) -> Tensor:
    count = int(resized_dims)
    if interpolation_mode == "NEAREST_NEIGHBOR" and sampling_mode != "DEFAULT":
        raise RunError(
            f"resize to the nearest neighbour with the sampling mode '{sampling_mode}' is not "
            "documented by MIL and not supported; use DEFAULT."
        )
    for axis, wanted in zip(range(-count, 0), integers(shape)[-count:], strict=True):
        if wanted in (0, x.shape[axis]):
            continue
        if interpolation_mode == "NEAREST_NEIGHBOR":
            x = _nearest(x, axis, wanted)
        else:
            x = _linear(x, axis, wanted, sampling_mode)
    return x


SPATIAL: dict[str, Callable[..., Any]] = {
    "batch_to_space": _batch_to_space,
    "depth_to_space": _depth_to_space,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "resize": _resize,
    "resize_bilinear": _resize_bilinear,
    "resize_nearest_neighbor": _resize_nearest,
    "space_to_batch": _space_to_batch,
    "space_to_depth": _space_to_depth,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest,
}
