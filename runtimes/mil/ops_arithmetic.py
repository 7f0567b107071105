"""Elementwise arithmetic, comparison and logic (MIL's elementwise_unary and elementwise_binary)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .values import HELD


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def apply(x: Tensor) -> Tensor:
        return function(x)

    return apply


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def apply(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    return apply


def _cast(x: Tensor, dtype: str) -> Tensor:
    return x.to(HELD[dtype])


def _clip(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x, alpha), beta)


def _inverse(x: Tensor, epsilon: Tensor) -> Tensor:
    return torch.reciprocal(x + epsilon)


def _log(x: Tensor, epsilon: Tensor) -> Tensor:
    return torch.log(x + epsilon)


def _rsqrt(x: Tensor, epsilon: Tensor) -> Tensor:
    return torch.rsqrt(x + epsilon)


def _threshold(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.maximum(x, alpha)


def _select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond.bool(), a, b)


def _round(x: Tensor) -> Tensor:
    return torch.round(x)  # halves go to the even neighbour, as NumPy's do


ARITHMETIC: dict[str, Callable[..., Any]] = {
    "abs": _unary(torch.abs),
    "acos": _unary(torch.acos),
    "add": _binary(torch.add),
    "asin": _unary(torch.asin),
    "atan": _unary(torch.atan),
    "atanh": _unary(torch.atanh),
    "cast": _cast,
    "ceil": _unary(torch.ceil),
    "clip": _clip,
    "cos": _unary(torch.cos),
    "cosh": _unary(torch.cosh),
    "equal": _binary(torch.eq),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "exp2": _unary(torch.exp2),
    "floor": _unary(torch.floor),
    "floor_div": _binary(torch.floor_divide),
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "inverse": _inverse,
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "log": _log,
    "logical_and": _binary(torch.logical_and),
    "logical_not": _unary(torch.logical_not),
    "logical_or": _binary(torch.logical_or),
    "logical_xor": _binary(torch.logical_xor),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "mod": _binary(torch.remainder),
    "mul": _binary(torch.mul),
    "not_equal": _binary(torch.ne),
    "pow": _binary(torch.pow),
    "real_div": _binary(torch.true_divide),
    "round": _round,
    "rsqrt": _rsqrt,
    "select": _select,
    "sign": _unary(torch.sign),
    "sin": _unary(torch.sin),
    "sinh": _unary(torch.sinh),
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "sub": _binary(torch.sub),
    "tan": _unary(torch.tan),
    "tanh": _unary(torch.tanh),
    "threshold": _threshold,
}
