"""Sizes and rules of the weight formats."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import OptionError
from kdexport.core.formats import (
    BLOCK,
    FORMATS,
    block_size,
    format_named,
    is_worth_it,
    palette_count,
    stored_bytes,
)


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(
        OptionError, match=r"no weight format 'int5'; choose float, palette8, .*fp8"
    ):
        format_named("int5")


@pytest.mark.parametrize(
    ("shape", "worth"),
    [((320,), False), ((4096,), False), ((16, 16), False), ((64, 32), True), ((32, 8, 3, 3), True)],
)
def test_only_matrices_and_kernels_of_some_size_are_worth_it(
    shape: tuple[int, ...], worth: bool
) -> None:
    assert is_worth_it(shape) == worth


@given(st.integers(1, 4096))
def test_blocks_divide_the_input_channels(inputs: int) -> None:
    size = block_size((8, inputs))
    assert inputs % size == 0
    assert size <= BLOCK or size == inputs


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("palette6", (640, 320), 1),
        ("palette6-grouped", (640, 320), 40),
        ("palette8-grouped", (640, 320), 1),  # 40 palettes of 512 bytes for 204,800 indices
        ("palette6-grouped", (24, 320), 1),  # 24 channels are no groups of 16
    ],
)
def test_palettes_of_groups(name: str, shape: tuple[int, ...], count: int) -> None:
    assert palette_count(FORMATS[name], shape) == count


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("float", 2 * 32 * 64),
        ("palette4", 32 * 64 // 2 + 2 * 16),
        ("palette1", 32 * 64 // 8 + 2 * 2),
        ("int8", 32 * 64 + 2 * 32),
        ("int4", 32 * 64 // 2 + 2 * 32 * 2),
        ("fp8", 32 * 64 + 2),
        ("sparse50-palette6", 1024 * 6 // 8 + 2048 // 8 + 2 * 64),
    ],
)
def test_stored_bytes(name: str, expected: int) -> None:
    assert stored_bytes(FORMATS[name], (32, 64)) == expected


@given(st.sampled_from(sorted(FORMATS)), st.integers(16, 64), st.integers(128, 512))
def test_formats_of_fewer_bits_are_smaller_than_floats(name: str, rows: int, columns: int) -> None:
    form, shape = FORMATS[name], (rows, columns)
    if form.kind != "float":
        bits = 8 * stored_bytes(form, shape) / math.prod(shape)
        assert form.bits * (1 - form.sparse) < bits < 16
