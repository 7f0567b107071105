"""Activations (MIL's activation.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...core.errors import RunError, choices


def _per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """Lays a vector along the second axis of `x`."""
    return parameter.reshape([1, -1] + [1] * (x.dim() - 2))


def _clamped_relu(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.minimum(torch.where(x >= 0, x, alpha * x), beta)


def _elu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x))


def _gelu_sigmoid(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _gelu(x: Tensor, mode: str) -> Tensor:
    modes = {
        "EXACT": lambda: functional.gelu(x),
        "TANH_APPROXIMATION": lambda: functional.gelu(x, approximate="tanh"),
        "SIGMOID_APPROXIMATION": lambda: _gelu_sigmoid(x),
    }
    if mode not in modes:
        raise RunError(f"gelu has no mode '{mode}', only {choices(modes)}.")
    return modes[mode]()


def _leaky_relu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x >= 0, x, alpha * x)


def _linear_activation(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return alpha * x + beta


def _prelu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x > 0, x, _per_channel(alpha, x) * x)


def _relu(x: Tensor) -> Tensor:
    return torch.relu(x)


def _relu6(x: Tensor) -> Tensor:
    return torch.clamp(x, 0, 6)


def _scaled_tanh(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return alpha * torch.tanh(beta * x)


def _sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


def _sigmoid_hard(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


def _silu(x: Tensor) -> Tensor:
    return functional.silu(x)


def _softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))


def _softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return _per_channel(alpha, x) * _softplus(_per_channel(beta, x) * x)


def _softmax(x: Tensor, axis: Tensor) -> Tensor:
    return torch.softmax(x, int(axis))


def _softsign(x: Tensor) -> Tensor:
    return functional.softsign(x)


def _thresholded_relu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x >= alpha, x, torch.zeros_like(x))


ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "clamped_relu": _clamped_relu,
    "elu": _elu,
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "linear_activation": _linear_activation,
    "prelu": _prelu,
    "relu": _relu,
    "relu6": _relu6,
    "scaled_tanh": _scaled_tanh,
    "sigmoid": _sigmoid,
    "sigmoid_hard": _sigmoid_hard,
    "silu": _silu,
    "softmax": _softmax,
    "softplus": _softplus,
    "softplus_parametric": _softplus_parametric,
    "softsign": _softsign,
    "thresholded_relu": _thresholded_relu,
}
