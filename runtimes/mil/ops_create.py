"""Tensors made from shapes and ranges; order and counting along an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .values import integers


def _fill(shape: Tensor, value: Tensor) -> Tensor:
    return value.reshape(()).repeat(integers(shape))


def _fill_like(ref_tensor: Tensor, value: Tensor) -> Tensor:
    return value.reshape(()).repeat(ref_tensor.shape)


def _shape(x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape), dtype=torch.int32)


def _range_1d(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def _one_hot(
    indices: Tensor, one_hot_vector_size: Tensor, axis: Tensor, on_value: Tensor, off_value: Tensor
) -> Tensor:
    along = int(axis) if int(axis) >= 0 else int(axis) + indices.dim() + 1
    classes = torch.arange(int(one_hot_vector_size), dtype=indices.dtype)
    classes = classes.reshape([-1] + [1] * (indices.dim() - along))
    return torch.where(indices.unsqueeze(along) == classes, on_value, off_value)


def _non_zero(x: Tensor) -> Tensor:
    return torch.nonzero(x)


def _argsort(x: Tensor, axis: Tensor, ascending: Tensor) -> Tensor:
    return torch.argsort(x, dim=int(axis), descending=not bool(ascending), stable=True)


def _topk(
    x: Tensor,
    k: Tensor,
    axis: Tensor,
    ascending: Tensor,
    sort: Tensor | None = None,
    return_indices: Tensor | None = None,
    output_indices_dtype: str = "int32",
) -> Tensor | tuple[Tensor, ...]:
    # Sorted always, which iOS 16's `sort` allows; the type of the indices is the declared one.
    order = _argsort(x, axis, ascending).narrow(int(axis), 0, int(k))
    best = torch.gather(x, int(axis), order)
    return best if return_indices is not None and not bool(return_indices) else (best, order)


def _cumsum(x: Tensor, axis: Tensor, exclusive: Tensor, reverse: Tensor) -> Tensor:
    along = int(axis)
    flipped = x.flip(along) if bool(reverse) else x
    total = torch.cumsum(flipped, along)
    if bool(exclusive):
        total = total - flipped
    return total.flip(along) if bool(reverse) else total


def _band_part(x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    below, above = int(lower), int(upper)
    rows = torch.arange(x.shape[-2])[:, None]
    columns = torch.arange(x.shape[-1])[None, :]
    keep = torch.ones(x.shape[-2:], dtype=torch.bool)
    if below >= 0:
        keep &= rows - columns <= below
    if above >= 0:
        keep &= columns - rows <= above
    return torch.where(keep, x, torch.zeros((), dtype=x.dtype))


CREATIONS: dict[str, Callable[..., Any]] = {
    "argsort": _argsort,
    "band_part": _band_part,
    "cumsum": _cumsum,
    "fill": _fill,
    "fill_like": _fill_like,
    "non_zero": _non_zero,
    "one_hot": _one_hot,
    "range_1d": _range_1d,
    "shape": _shape,
    "topk": _topk,
}
