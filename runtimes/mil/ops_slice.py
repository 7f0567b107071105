"""Slices and padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...core.errors import RunError, choices
from .ops_conv import flat
from .values import integers


def _flags(mask: Tensor | None, rank: int) -> list[bool]:
    return [False] * rank if mask is None else [bool(flag) for flag in integers(mask)]


def _ranges(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None,
    begin_mask: Tensor | None,
    end_mask: Tensor | None,
    squeeze_mask: Tensor | None,
) -> tuple[list[range], list[int]]:
    """The indices along each axis, and the axes that go away."""
    rank = x.dim()
    steps = [1] * rank if stride is None else integers(stride)
    squeezed = _flags(squeeze_mask, rank)
    rows = zip(
        integers(begin),
        integers(end),
        steps,
        _flags(begin_mask, rank),
        _flags(end_mask, rank),
        squeezed,
        x.shape,
        strict=True,
    )
    ranges = []
    for first, last, step, from_start, to_end, single, size in rows:
        if single:
            where = 0 if from_start else first + size * (first < 0)
            ranges.append(range(where, where + 1))
        else:
            piece = slice(None if from_start else first, None if to_end else last, step)
            ranges.append(range(*piece.indices(size)))
    return ranges, [axis for axis, single in enumerate(squeezed) if single]


def _take(x: Tensor, ranges: Sequence[range]) -> Tensor:
    for axis, indices in enumerate(ranges):
        if indices.step == 1 or len(indices) < 2:
            start = indices.start if len(indices) else 0
            x = x.narrow(axis, start, len(indices))
        else:
            x = x.index_select(axis, torch.tensor(list(indices)))
    return x


def _slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    ranges, gone = _ranges(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    return _take(x, ranges).squeeze(gone)


def _slice_by_size(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    ranges = []
    for first, length, whole in zip(integers(begin), integers(size), x.shape, strict=True):
        start = first + whole * (first < 0)
        ranges.append(range(start, whole if length == -1 else start + length))
    return _take(x, ranges)


def _slice_update(
    x: Tensor,
    update: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    ranges, _ = _ranges(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    rank = x.dim()
    where = tuple(
        torch.tensor(list(indices), dtype=torch.int64).reshape(
            [-1 if other == axis else 1 for other in range(rank)]
        )
        for axis, indices in enumerate(ranges)
    )
    result = x.clone()
    result[where] = update.reshape([len(indices) for indices in ranges])
    return result


def _mirror(position: Tensor, size: int) -> Tensor:
    """Indices reflected at both ends, the ends themselves not repeated."""
    position = position.abs()
    return torch.where(position >= size, 2 * (size - 1) - position, position)


def _pad(x: Tensor, pad: Tensor, mode: str, constant_val: Tensor) -> Tensor:
    sizes = integers(pad)
    pairs = list(zip(sizes[::2], sizes[1::2], strict=True))
    if mode == "constant":
        return functional.pad(x, flat(pairs), value=constant_val.item())
    modes = ("constant", "reflect", "replicate")
    if mode not in modes:
        raise RunError(f"pad has no mode '{mode}', only {choices(modes)}.")
    for axis, (before, after) in enumerate(pairs, start=x.dim() - len(pairs)):
        size = x.shape[axis]
        if before == after == 0:
            continue
        if mode == "reflect" and max(before, after) >= size:
            raise RunError(f"An axis of size {size} cannot be reflected by {max(before, after)}.")
        position = torch.arange(-before, size + after)
        mirrored = mode == "reflect"
        where = _mirror(position, size) if mirrored else position.clamp(0, size - 1)
        x = x.index_select(axis, where)
    return x


def _crop(x: Tensor, crop_height: Tensor, crop_width: Tensor) -> Tensor:
    top, bottom = integers(crop_height)
    left, right = integers(crop_width)
    height, width = x.shape[-2:]
    return x[..., top : height - bottom, left : width - right]


SLICES: dict[str, Callable[..., Any]] = {
    "crop": _crop,
    "pad": _pad,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
}
