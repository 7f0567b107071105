"""Reductions (MIL's reduction.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .values import integers, positive


def _over(
    function: Callable[[Tensor, list[int], bool], Tensor],
) -> Callable[..., Tensor]:
    """Reads MIL's parameters: no axes are all axes."""

    def apply(x: Tensor, keep_dims: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = list(range(x.dim())) if axes is None else positive(integers(axes), x.dim())
        return function(x, chosen, bool(keep_dims))

    return apply


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.float().mean(axes, keepdim=keep)


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.float().square().sum(axes, keepdim=keep).sqrt()


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(x.float(), axes, keepdim=keep)


def _arg(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # The type of iOS 17's `output_dtype` is the one that the output declares.
    def apply(x: Tensor, axis: Tensor, keep_dims: Tensor, output_dtype: str = "int32") -> Tensor:
        return function(x, int(axis), keepdim=bool(keep_dims))

    return apply


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_argmax": _arg(torch.argmax),
    "reduce_argmin": _arg(torch.argmin),
    "reduce_l1_norm": _over(lambda x, axes, keep: x.abs().sum(axes, keepdim=keep)),
    "reduce_l2_norm": _over(_l2),
    "reduce_log_sum": _over(lambda x, axes, keep: x.float().sum(axes, keepdim=keep).log()),
    "reduce_log_sum_exp": _over(_log_sum_exp),
    "reduce_max": _over(lambda x, axes, keep: torch.amax(x, axes, keepdim=keep)),
    "reduce_mean": _over(_mean),
    "reduce_min": _over(lambda x, axes, keep: torch.amin(x, axes, keepdim=keep)),
    "reduce_prod": _over(_prod),
    "reduce_sum": _over(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    "reduce_sum_square": _over(lambda x, axes, keep: x.square().sum(axes, keepdim=keep)),
}
