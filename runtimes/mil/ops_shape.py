"""Shapes and axes; joining and dividing (MIL's tensor_transformation.py)."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from ...core.errors import RunError
from .values import integers, positive


def _fill_in(sizes: list[int], count: int) -> list[int]:
    """Replaces the one -1 of a wanted shape for `count` elements."""
    if -1 in sizes:
        known = prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = count // known if known else 0
    return sizes


def _reshape(x: Tensor, shape: Tensor) -> Tensor:
    sizes = integers(shape)
    if 0 in sizes and len(sizes) != x.dim():
        raise RunError(f"A 0 in the shape {sizes} needs {len(sizes)} axes, not {x.dim()}.")
    sizes = [size or x.shape[axis] for axis, size in enumerate(sizes)]
    return x.reshape(_fill_in(sizes, x.numel()))


def _reshape_from_the_right(x: Tensor, shape: Tensor) -> Tensor:
    """Since iOS 17: a 0 takes the axis as far from the last one, and is 1 where there is none."""
    sizes = integers(shape)
    shift = x.dim() - len(sizes)
    for axis, size in enumerate(sizes):
        if size == 0:
            sizes[axis] = x.shape[axis + shift] if axis + shift >= 0 else 1
    return x.reshape(_fill_in(sizes, x.numel()))


def _reshape_like(
    x: Tensor,
    ref_tensors: tuple[Tensor, ...],
    begins: tuple[Tensor, ...],
    ends: tuple[Tensor, ...],
    end_masks: tuple[Tensor, ...],
) -> Tensor:
    sizes: list[int] = []
    for reference, begin, end, mask in zip(ref_tensors, begins, ends, end_masks, strict=True):
        sizes += reference.shape[int(begin) : None if bool(mask) else int(end)]
    return x.reshape(sizes)


def _expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    chosen = integers(axes)
    for axis in sorted(positive(chosen, x.dim() + len(chosen))):
        x = x.unsqueeze(axis)
    return x


def _squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    if axes is None:
        return x.squeeze()
    return x.squeeze(tuple(integers(axes)))


def _transpose(x: Tensor, perm: Tensor) -> Tensor:
    return x.permute(integers(perm))


def _flatten2d(x: Tensor, axis: Tensor) -> Tensor:
    return x.reshape(prod(x.shape[: int(axis)]), -1)


def _concat(values: tuple[Tensor, ...], axis: Tensor, interleave: Tensor) -> Tensor:
    parts = [value.reshape(1) if value.dim() == 0 else value for value in values]
    (along,) = positive([int(axis)], parts[0].dim())
    if bool(interleave):
        return torch.stack(parts, along + 1).flatten(along, along + 1)
    return torch.cat(parts, along)


def _stack(values: tuple[Tensor, ...], axis: Tensor) -> Tensor:
    return torch.stack(values, int(axis))


def _split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return torch.split(x, integers(split_sizes), int(axis))
    if num_splits is None:
        raise RunError("split needs a number of parts or their sizes.")
    size = x.shape[int(axis)] // int(num_splits)
    return torch.split(x, [size] * int(num_splits), int(axis))


def _tile(x: Tensor, reps: Tensor) -> Tensor:
    return x.repeat(integers(reps))


def _reverse(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.flip(list(range(x.dim())) if axes is None else integers(axes))


def _reverse_sequence(x: Tensor, lengths: Tensor, seq_axis: Tensor, batch_axis: Tensor) -> Tensor:
    along, batch = positive([int(seq_axis), int(batch_axis)], x.dim())
    result = x.clone()
    for row, length in enumerate(integers(lengths)):
        part = x.select(batch, row).narrow(along - (batch < along), 0, length)
        target = result.select(batch, row).narrow(along - (batch < along), 0, length)
        target.copy_(part.flip(along - (batch < along)))
    return result


def _sliding_windows(x: Tensor, axis: Tensor, size: Tensor, stride: Tensor) -> Tensor:
    (along,) = positive([int(axis)], x.dim())
    return x.unfold(along, int(size), int(stride)).movedim(-1, along + 1)


def _identity(x: Tensor) -> Tensor:
    return x


SHAPES: dict[str, Callable[..., Any]] = {
    "concat": _concat,
    "expand_dims": _expand_dims,
    "flatten2d": _flatten2d,
    "identity": _identity,
    "reshape": _reshape,
    "reshape@iOS17": _reshape_from_the_right,
    "reshape_like": _reshape_like,
    "reverse": _reverse,
    "reverse_sequence": _reverse_sequence,
    "sliding_windows": _sliding_windows,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}
