"""Compressed weights (MIL's constexpr operations) and quantization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .values import HELD, integers, positive


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Reads unsigned numbers of `bits` bits, the lowest bits first.

    Args:
        packed: uint8 of shape (bytes,).
        bits: 1, 2, 3, 4, 6 or 8.
        count: How many numbers there are; the rest of the last byte is no data.

    Returns:
        int32 of shape (count,).
    """
    width = 1 if 8 % bits == 0 else 3  # bytes that hold a whole number of numbers
    packed = torch.nn.functional.pad(packed, (0, -packed.numel() % width))
    words = packed.reshape(-1, width).to(torch.int32)
    word = sum(words[:, place] << (8 * place) for place in range(width))
    shifts = torch.arange(0, 8 * width, bits, dtype=torch.int32)
    numbers = (torch.as_tensor(word)[:, None] >> shifts) & ((1 << bits) - 1)
    return numbers.reshape(-1)[:count]


def _blocks(x: Tensor, groups: Sequence[int]) -> Tensor:
    """Splits each axis into groups: (a, b) in (g, h) groups is (g, a/g, h, b/h)."""
    sizes = [
        size
        for whole, group in zip(x.shape, groups, strict=True)
        for size in (group, whole // group)
    ]
    return x.reshape(sizes)


def _per_block(x: Tensor) -> Tensor:
    """Lays one number per group beside `_blocks`: (g, h) is (g, 1, h, 1)."""
    return x.reshape([size for group in x.shape for size in (group, 1)])


def _look_up(indices: Tensor, lut: Tensor, shape: Tensor) -> Tensor:
    sizes = integers(shape)
    count = int(torch.tensor(sizes).prod())
    numbers = unpack(indices, (lut.numel() - 1).bit_length(), count)
    return lut.index_select(0, numbers).reshape(sizes)


def _look_up_in_groups(indices: Tensor, lut: Tensor, vector_axis: Tensor | None = None) -> Tensor:
    """Since iOS 18: a table per group of weights, and vectors for single weights."""
    *groups, entries, length = lut.shape
    table = torch.arange(0, lut.numel() // length, entries, dtype=torch.int32).reshape(groups)
    rows = _blocks(indices, groups).to(torch.int32) + _per_block(table)
    values = lut.reshape(-1, length).index_select(0, rows.reshape(-1))
    if length == 1 or vector_axis is None:
        return values.reshape(indices.shape)
    (axis,) = positive([int(vector_axis)], indices.dim())
    sizes = [size * (length if at == axis else 1) for at, size in enumerate(indices.shape)]
    return values.reshape([*indices.shape, length]).movedim(-1, axis + 1).reshape(sizes)


def _along(parameter: Tensor | None, x: Tensor, axis: Tensor | None) -> Tensor:
    """Lays a vector along an axis of `x`; a number stays one."""
    if parameter is None:
        return torch.zeros(())
    if parameter.dim() == 0 or axis is None:
        return parameter.float()
    (at,) = positive([int(axis)], x.dim())
    return parameter.float().reshape([-1 if other == at else 1 for other in range(x.dim())])


def _affine(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: Tensor) -> Tensor:
    data = quantized_data
    return _along(scale, data, axis) * (data.float() - _along(zero_point, data, axis))


def _shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    blocks = _blocks(data.float(), scale.shape)
    if offset is not None:
        blocks = blocks - _per_block(offset.float())
    return (blocks * _per_block(scale)).reshape(data.shape)


def _dense(nonzero_data: Tensor, mask: Tensor, shape: Tensor) -> Tensor:
    sizes = integers(shape)
    bits = unpack(mask, 1, int(torch.tensor(sizes).prod()))
    return _dense_by_mask(nonzero_data, bits.reshape(sizes))


def _dense_by_mask(nonzero_data: Tensor, mask: Tensor) -> Tensor:
    dense = torch.zeros(mask.shape, dtype=nonzero_data.dtype)
    return dense.masked_scatter_(mask.bool(), nonzero_data)


def _sparse_look_up(
    indices_mask: Tensor,
    indices_nonzero_data: Tensor,
    lut: Tensor,
    vector_axis: Tensor | None = None,
) -> tuple[Tensor, ...]:
    indices = _dense_by_mask(indices_nonzero_data, indices_mask)
    dense = _look_up_in_groups(indices, lut, vector_axis)
    mask = indices_mask
    if vector_axis is not None:
        mask = mask.repeat_interleave(lut.shape[-1], int(vector_axis))
    return mask, dense[mask.bool()]


def _sparse_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, ...]:
    dense = _shift_scale(_dense_by_mask(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask.bool()]


def _constant_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    return source_val.to(HELD[output_dtype])


def _quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    steps = torch.round(input / _along(scale, input, axis)) + _along(zero_point, input, axis)
    kept = torch.iinfo(HELD[output_dtype])
    return steps.clamp(kept.min, kept.max)


def _dequantize(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    return _along(scale, input, axis) * (input.float() - _along(zero_point, input, axis))


COMPRESSED: dict[str, Callable[..., Any]] = {
    "constexpr_affine_dequantize": _affine,
    "constexpr_blockwise_shift_scale": _shift_scale,
    "constexpr_cast": _constant_cast,
    "constexpr_lut_to_dense": _look_up,
    "constexpr_lut_to_dense@iOS18": _look_up_in_groups,
    "constexpr_lut_to_sparse": _sparse_look_up,
    "constexpr_sparse_blockwise_shift_scale": _sparse_shift_scale,
    "constexpr_sparse_to_dense": _dense,
    "constexpr_sparse_to_dense@iOS18": _dense_by_mask,
    "dequantize": _dequantize,
    "quantize": _quantize,
}
