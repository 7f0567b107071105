"""Ranges of activations against the exhaustive search on the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.calib.histogram import Histogram
from kdexport.core.errors import CalibrationError
from kdexport.core.rounding import to_float8


def _values(spread: float, outliers: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.standard_normal(30_000).astype(np.float32)
    values[:outliers] *= spread
    return values


def _unsigned_error(values: np.ndarray, low: float, high: float) -> float:
    scale = (high - low) / 255
    zero = round(-low / scale)
    codes = np.clip(np.rint(values / scale) + zero, 0, 255)
    return float(np.square((codes - zero) * scale - values).mean())


@pytest.mark.parametrize(("spread", "outliers"), [(1.0, 0), (6.0, 30), (30.0, 3)])
def test_predicted_errors_are_those_of_rounding(spread: float, outliers: int) -> None:
    values = _values(spread, outliers)
    histogram = Histogram()
    for part in np.split(values, 10):
        histogram.add(part, "layer")
    found, noise = histogram.range()
    scale = found.signed
    signed = np.clip(np.rint(values / scale), -127, 127) * scale
    assert noise.signed == pytest.approx(np.square(signed - values).mean(), rel=0.15)
    assert noise.unsigned == pytest.approx(_unsigned_error(values, found.low, found.high), rel=0.15)
    eight = to_float8((values / found.float8).astype(np.float32)) * found.float8
    assert noise.float8 == pytest.approx(np.square(eight - values).mean(), rel=0.25)


@pytest.mark.parametrize(("spread", "outliers"), [(1.0, 0), (6.0, 30), (30.0, 3)])
def test_no_range_of_the_grid_is_much_better(spread: float, outliers: int) -> None:
    values = _values(spread, outliers)
    histogram = Histogram()
    histogram.add(values, "layer")
    found, _ = histogram.range()
    best = min(
        _unsigned_error(values, clip * values.min(), clip * values.max())
        for clip in np.linspace(0.3, 1, 36)
    )
    assert _unsigned_error(values, found.low, found.high) <= 1.1 * best


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40), st.integers(1, 5))
def test_extremes_are_exact_however_the_values_come(values: list[float], parts: int) -> None:
    histogram = Histogram()
    for part in np.array_split(np.array(values, np.float32), parts):
        if part.size:
            histogram.add(part, "layer")
    found, _ = histogram.range()
    assert found.largest == pytest.approx(max(map(abs, values)))
    assert min(0.0, *values, 0.0) - 1e-9 <= found.low <= 0 <= found.high
    assert found.high <= max(0.0, *values, 0.0) + 1e-9


def test_values_that_are_all_zero_have_a_range() -> None:
    histogram = Histogram()
    histogram.add(np.zeros(10, np.float32), "layer")
    found, noise = histogram.range()
    assert (found.largest, noise.signed) == (0.0, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(bad: float) -> None:
    with pytest.raises(CalibrationError, match="activations of 'conv_in' are NaN or infinite"):
        Histogram().add(np.array([0.0, bad], np.float32), "conv_in")
