"""Convolutions (MIL's conv.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...core.errors import RunError
from .values import integers

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_CONV_TRANSPOSE = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def paddings(
    pad_type: str,
    pad: Sequence[int],
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
) -> list[tuple[int, int]]:
    """Zeros before and after each spatial axis.

    The odd one of "same" lies after the axis and that of "same_lower" before it, as in TensorFlow
    and in torch's own "same"; the formula that MIL's documentation adds for even kernels
    contradicts its text and both frameworks.

    Args:
        pad_type: One of MIL's padding types.
        pad: Padding of "custom", before and after each axis in turn.
        sizes: Spatial sizes of the input.
        kernel: Sizes of the kernel, dilation included.
        strides: Steps along each axis.
    """
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    if pad_type == "custom":
        return list(zip(pad[::2], pad[1::2], strict=True))
    if pad_type not in ("same", "same_lower"):
        raise RunError(f"There is no padding type '{pad_type}'.")
    found = []
    for size, extent, stride in zip(sizes, kernel, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + extent - size)
        small, large = total // 2, total - total // 2
        found.append((small, large) if pad_type == "same" else (large, small))
    return found


def flat(pads: Sequence[tuple[int, int]]) -> list[int]:
    """Paddings in the order of `torch.nn.functional.pad`: the last axis first."""
    return [size for pair in reversed(pads) for size in pair]


def _conv(
    x: Tensor,
    weight: Tensor,
    strides: Tensor,
    pad_type: str,
    pad: Tensor,
    dilations: Tensor,
    groups: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    steps, spread = integers(strides), integers(dilations)
    kernel = [(size - 1) * each + 1 for size, each in zip(weight.shape[2:], spread, strict=True)]
    pads = paddings(pad_type, integers(pad), x.shape[2:], kernel, steps)
    inner: list[int] = [before for before, _ in pads]
    if any(before != after for before, after in pads):
        x, inner = functional.pad(x, flat(pads)), [0] * len(pads)
    convolve = _CONV[x.dim() - 2]
    return convolve(x, weight, bias, steps, inner, spread, int(groups))


def _conv_transpose(
    x: Tensor,
    weight: Tensor,
    pad: Tensor,
    pad_type: str,
    strides: Tensor,
    dilations: Tensor,
    groups: Tensor,
    bias: Tensor | None = None,
    output_shape: Tensor | None = None,
) -> Tensor:
    steps, spread = integers(strides), integers(dilations)
    full = _CONV_TRANSPOSE[x.dim() - 2](x, weight, None, steps, 0, 0, int(groups), spread)
    sizes = full.shape[2:]
    cuts = list(zip(integers(pad)[::2], integers(pad)[1::2], strict=True))
    if pad_type == "valid":
        cuts = [(0, 0)] * len(sizes)
    elif pad_type in ("same", "same_lower"):
        surplus = [
            whole - size * step for whole, size, step in zip(sizes, x.shape[2:], steps, strict=True)
        ]
        cuts = [(each // 2, each - each // 2) for each in surplus]
        cuts = cuts if pad_type == "same" else [(after, before) for before, after in cuts]
    if output_shape is not None:
        wanted = integers(output_shape)[2:]
        cuts = [
            (before, whole - before - size)
            for (before, _), whole, size in zip(cuts, sizes, wanted, strict=True)
        ]
    # A negative padding cuts; where the wanted shape reaches further, zeros stand for no input.
    full = functional.pad(full, flat([(-before, -after) for before, after in cuts]))
    if bias is None:
        return full
    return full + bias.reshape([1, -1] + [1] * len(sizes))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.linear(x, weight, bias)


def _matmul(x: Tensor, y: Tensor, transpose_x: Tensor, transpose_y: Tensor) -> Tensor:
    if bool(transpose_x) and x.dim() > 1:
        x = x.transpose(-1, -2)
    if bool(transpose_y) and y.dim() > 1:
        y = y.transpose(-1, -2)
    return torch.matmul(x, y)


def _einsum(values: tuple[Tensor, ...], equation: str) -> Tensor:
    return torch.einsum(equation, *values)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)


PRODUCTS: dict[str, Callable[..., Any]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "einsum": _einsum,
    "linear": _linear,
    "matmul": _matmul,
    "scaled_dot_product_attention": _attention,
}
