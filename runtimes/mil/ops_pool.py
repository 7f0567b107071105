"""Pooling (MIL's pool.py)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .ops_conv import flat, paddings
from .values import integers

_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_MAXIMUM = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


def _padded(
    x: Tensor,
    kernel: list[int],
    strides: list[int],
    pad_type: str,
    pad: Tensor,
    ceil: bool,
    value: float,
) -> Tensor:
    """Pads `x`; where sizes round up, also what the last window reaches beyond the end."""
    pads = paddings(pad_type, integers(pad), x.shape[2:], kernel, strides)
    if ceil:
        pads = [
            (before, after + _overhang(size, before, after, extent, stride))
            for (before, after), size, extent, stride in zip(
                pads, x.shape[2:], kernel, strides, strict=True
            )
        ]
    return functional.pad(x, flat(pads), value=value)


def _overhang(size: int, before: int, after: int, extent: int, stride: int) -> int:
    whole = size + before + after
    windows = -(-(whole - extent) // stride) + 1
    if (windows - 1) * stride >= size + before and before + after > 0:
        windows -= 1
    return max(0, (windows - 1) * stride + extent - whole)


def _sums(x: Tensor, kernel: list[int], strides: list[int]) -> Tensor:
    return _AVERAGE[x.dim() - 2](x, kernel, strides) * math.prod(kernel)


def _avg_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor,
    pad_type: str,
    pad: Tensor,
    ceil_mode: Tensor,
    exclude_padding_from_average: Tensor,
) -> Tensor:
    kernel, steps, ceil = integers(kernel_sizes), integers(strides), bool(ceil_mode)
    total = _sums(_padded(x, kernel, steps, pad_type, pad, ceil, 0.0), kernel, steps)
    ones = torch.ones([1, 1, *x.shape[2:]])
    if not bool(exclude_padding_from_average):
        # The padding asked for counts; what only rounding up adds does not, as in torch.
        ones = _padded(ones, kernel, steps, pad_type, pad, False, 1.0)
        beyond = _padded(x[:1, :1], kernel, steps, pad_type, pad, ceil, 0.0).shape[2:]
        pads = [(0, more - size) for size, more in zip(ones.shape[2:], beyond, strict=True)]
        counted = functional.pad(ones, flat(pads))
    else:
        counted = _padded(ones, kernel, steps, pad_type, pad, ceil, 0.0)
    return total / _sums(counted, kernel, steps)


def _l2_pool(
    x: Tensor, kernel_sizes: Tensor, strides: Tensor, pad_type: str, pad: Tensor, ceil_mode: Tensor
) -> Tensor:
    kernel, steps = integers(kernel_sizes), integers(strides)
    padded = _padded(x.square(), kernel, steps, pad_type, pad, bool(ceil_mode), 0.0)
    return _sums(padded, kernel, steps).sqrt()


def _max_pool(
    x: Tensor, kernel_sizes: Tensor, strides: Tensor, pad_type: str, pad: Tensor, ceil_mode: Tensor
) -> Tensor:
    kernel, steps = integers(kernel_sizes), integers(strides)
    padded = _padded(x, kernel, steps, pad_type, pad, bool(ceil_mode), -math.inf)
    return _MAXIMUM[x.dim() - 2](padded, kernel, steps)


POOLS: dict[str, Callable[..., Any]] = {
    "avg_pool": _avg_pool,
    "l2_pool": _l2_pool,
    "max_pool": _max_pool,
}
