"""Normalizations (MIL's normalization.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .values import integers, positive


def _lie(vector: Tensor | None, x: Tensor, default: float) -> Tensor:
    """Lays a vector of channels along the second axis of `x`."""
    if vector is None:
        return torch.tensor(default)
    return vector.reshape([1, -1] + [1] * (x.dim() - 2))


def _batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    scale = _lie(gamma, x, 1.0) * torch.rsqrt(_lie(variance, x, 1.0) + epsilon)
    return (x - _lie(mean, x, 0.0)) * scale + _lie(beta, x, 0.0)


def _standardize(x: Tensor, axes: list[int], epsilon: Tensor) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + epsilon)


def _instance_norm(
    x: Tensor, epsilon: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    normal = _standardize(x, list(range(2, x.dim())), epsilon)
    return normal * _lie(gamma, x, 1.0) + _lie(beta, x, 0.0)


def _layer_norm(
    x: Tensor,
    axes: Tensor,
    epsilon: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    over = sorted(positive(integers(axes), x.dim()))
    if over == list(range(over[0], x.dim())):
        return functional.layer_norm(x, x.shape[over[0] :], gamma, beta, float(epsilon))
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    normal = _standardize(x, over, epsilon)
    if gamma is not None:
        normal = normal * gamma.reshape(shape)
    return normal if beta is None else normal + beta.reshape(shape)


def _l2_norm(x: Tensor, epsilon: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum((-3, -2, -1), keepdim=True) + epsilon)


def _local_response_norm(x: Tensor, size: Tensor, alpha: Tensor, beta: Tensor, k: Tensor) -> Tensor:
    return functional.local_response_norm(x, int(size), float(alpha), float(beta), float(k))


NORMALIZATIONS: dict[str, Callable[..., Any]] = {
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "l2_norm": _l2_norm,
    "layer_norm": _layer_norm,
    "local_response_norm": _local_response_norm,
}
