"""Ranges of activations: scales, zero points, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import CalibrationError
from kdexport.core.ranges import (
    LayerRange,
    TensorRange,
    ranges_from_json,
    ranges_to_json,
    require_ranges,
)

_RANGE = TensorRange(-1.0, 3.0, 2.0, 3.5)


@given(st.floats(-1e4, 0), st.floats(0, 1e4))
def test_unsigned_steps_have_zero_exactly_and_both_ends_nearly(low: float, high: float) -> None:
    scale, zero = TensorRange(low, high, 0.0, 0.0).unsigned
    assert 0 <= zero <= 255
    assert abs((0 - zero) * scale - low) <= scale
    if high - low > 1e-30:
        assert abs((255 - zero) * scale - high) <= scale + 1e-9


def test_signed_and_float8_scales() -> None:
    assert _RANGE.signed == pytest.approx(2 / 127)
    assert _RANGE.float8 == pytest.approx(3.5 / 448)
    nothing = TensorRange(0.0, 0.0, 0.0, 0.0)
    assert (nothing.signed, nothing.float8, nothing.unsigned) == (1.0, 1.0, (1.0, 0))


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ((math.nan, 1, 1, 1), "not finite"),
        ((-1, math.inf, 1, 1), "not finite"),
        ((0.5, 1, 1, 1), "is none"),
        ((-1, -0.5, 1, 1), "is none"),
        ((-1, 1, 2, 1), "is none"),
    ],
)
def test_what_is_no_range_is_refused(numbers: tuple[float, ...], why: str) -> None:
    with pytest.raises(CalibrationError, match=why):
        TensorRange(*numbers)


def test_json_there_and_back() -> None:
    ranges = {"conv_in": LayerRange(_RANGE, TensorRange(-2.0, 2.0, 2.0, 2.0))}
    assert ranges_from_json(ranges_to_json(ranges)) == ranges


@pytest.mark.parametrize("data", [{"conv": {}}, {"conv": {"input": {"low": 1}}}, {"conv": 3}])
def test_other_json_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        ranges_from_json(data)


def test_layers_without_a_range_are_named() -> None:
    ranges = {"a": LayerRange(_RANGE, _RANGE)}
    require_ranges(ranges, ["a"])
    with pytest.raises(CalibrationError, match="activations of b, c; calibrate"):
        require_ranges(ranges, ["a", "b", "c"])
