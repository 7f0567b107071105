"""Reading and writing at indices (MIL's scatter_gather.py)."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from ...core.errors import RunError, choices
from .values import positive

# Mode to torch's reduction and what is done to the updates first.
_REDUCTIONS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "add": ("sum", lambda updates: updates),
    "sub": ("sum", torch.neg),
    "mul": ("prod", lambda updates: updates),
    "div": ("prod", torch.reciprocal),
    "max": ("amax", lambda updates: updates),
    "min": ("amin", lambda updates: updates),
}


def _checked(indices: Tensor, size: int, validate_indices: Tensor | None) -> Tensor:
    """Indices from 0 up.

    Negative ones count from the end up to iOS 16, whose operations lack `validate_indices`; since
    iOS 17 they are out of range, and what is read there is not defined, so they are refused.
    """
    indices = indices.long()
    if validate_indices is None:
        indices = torch.where(indices < 0, indices + size, indices)
    if indices.numel() and (int(indices.min()) < 0 or int(indices.max()) >= size):
        raise RunError(
            f"the indices from {int(indices.min())} to {int(indices.max())} leave the range from "
            f"0 to {size - 1}"
        )
    return indices


def _select(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    taken = x.index_select(axis, indices.reshape(-1))
    return taken.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _gather(
    x: Tensor,
    indices: Tensor,
    axis: Tensor,
    batch_dims: Tensor | None = None,
    validate_indices: Tensor | None = None,
) -> Tensor:
    (along,) = positive([int(axis)], x.dim())
    where = _checked(indices, x.shape[along], validate_indices)
    batch = 0 if batch_dims is None else int(batch_dims)
    if batch == 0:
        return _select(x, where, along)
    rows = zip(x.flatten(0, batch - 1), where.flatten(0, batch - 1), strict=True)
    taken = torch.stack([_select(row, at, along - batch) for row, at in rows])
    return taken.reshape([*x.shape[:batch], *taken.shape[1:]])


def _gather_along_axis(
    x: Tensor, indices: Tensor, axis: Tensor, validate_indices: Tensor | None = None
) -> Tensor:
    return torch.gather(x, int(axis), _checked(indices, x.shape[int(axis)], validate_indices))


def _columns(indices: Tensor, sizes: list[int], validate_indices: Tensor | None) -> list[Tensor]:
    parts = indices.unbind(-1)
    return [_checked(part, size, validate_indices) for part, size in zip(parts, sizes, strict=True)]


def _gather_nd(
    x: Tensor,
    indices: Tensor,
    batch_dims: Tensor | None = None,
    validate_indices: Tensor | None = None,
) -> Tensor:
    batch = 0 if batch_dims is None else int(batch_dims)
    depth = indices.shape[-1]
    where = _columns(indices, list(x.shape[batch : batch + depth]), validate_indices)
    rank = indices.dim() - 1
    rows = [
        torch.arange(x.shape[axis]).reshape([-1 if other == axis else 1 for other in range(rank)])
        for axis in range(batch)
    ]
    return x[(*rows, *where)]


def _write(data: Tensor, axis: int, where: Tensor, updates: Tensor, mode: str) -> Tensor:
    if mode == "update":
        return data.scatter(axis, where, updates)
    if mode not in _REDUCTIONS:
        raise RunError(f"scatter has no mode '{mode}', only {choices(['update', *_REDUCTIONS])}.")
    reduction, prepare = _REDUCTIONS[mode]
    working = data.float() if mode == "div" else data
    return working.scatter_reduce(axis, where, prepare(updates).to(working.dtype), reduction)


def _scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: Tensor,
    mode: str,
    validate_indices: Tensor | None = None,
) -> Tensor:
    (along,) = positive([int(axis)], data.dim())
    where = _checked(indices, data.shape[along], validate_indices)
    where = where.reshape([-1] + [1] * (data.dim() - along - 1)).expand(updates.shape)
    return _write(data, along, where, updates, mode)


def _scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: Tensor,
    mode: str,
    validate_indices: Tensor | None = None,
) -> Tensor:
    where = _checked(indices, data.shape[int(axis)], validate_indices)
    return _write(data, int(axis), where, updates, mode)


def _scatter_nd(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    mode: str,
    validate_indices: Tensor | None = None,
) -> Tensor:
    depth = indices.shape[-1]
    sizes = list(data.shape[:depth])
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for column, size in zip(_columns(indices, sizes, validate_indices), sizes, strict=True):
        flat = flat * size + column
    rows = data.reshape(prod(sizes), -1)
    new = updates.reshape(flat.numel(), -1)
    written = _write(rows, 0, flat.reshape(-1, 1).expand(new.shape), new, mode)
    return written.reshape(data.shape)


GATHERS: dict[str, Callable[..., Any]] = {
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
}
