"""The arithmetic of the weight formats, held against libraries that nobody here wrote."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from kdexport.core.formats import FORMATS, block_size
from kdexport.core.rounding import (
    float8,
    integer_blocks,
    integer_channels,
    kept,
    palettes,
    rounded,
    to_float8,
)

_FINITE = st.floats(-1e4, 1e4, width=32)
_MATRICES = arrays.arrays(
    np.float32, st.sampled_from([(4, 32), (8, 24), (3, 5, 3, 3)]), elements=_FINITE
)


def _weight(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 0.05


@given(_MATRICES)
def test_integers_of_channels_are_those_of_torch(weight: np.ndarray) -> None:
    codes, scales = integer_channels(weight)
    theirs = torch.quantize_per_channel(
        torch.from_numpy(weight),
        torch.from_numpy(scales.astype(np.float64)),
        torch.zeros(len(scales), dtype=torch.int64),
        0,
        torch.qint8,
    ).int_repr()
    # torch multiplies by the inverse of the scale, so what lies half-way may fall to either side.
    assert np.abs(codes.astype(int) - theirs.numpy()).max() <= 1
    assert np.abs(codes.astype(int)).max() <= 127


@pytest.mark.parametrize("name", ["int8", "int4", "fp8"])
@pytest.mark.parametrize("tiny", [2e-43, 1e-39, 1e-38])
def test_weights_next_to_zero_do_not_overflow(name: str, tiny: float) -> None:
    weight = np.full((32, 64), tiny, np.float32)
    assert np.abs(rounded(FORMATS[name], weight)).max() <= 2 * tiny


@given(_MATRICES)
def test_errors_of_integers_are_at_most_half_a_step(weight: np.ndarray) -> None:
    codes, scales = integer_channels(weight)
    steps = scales.reshape(-1, *[1] * (weight.ndim - 1))
    assert (np.abs(codes * steps - weight) <= steps * 0.5001).all()


@given(_MATRICES)
def test_integers_of_blocks_are_nearer_than_without_clipping(weight: np.ndarray) -> None:
    codes, scales = integer_blocks(weight)
    size = block_size(weight.shape)
    assert codes.min() >= -7
    assert codes.max() <= 7
    assert scales.shape == (weight.shape[0], weight.shape[1] // size, *weight.shape[2:])
    split = weight.reshape(weight.shape[0], -1, size, *weight.shape[2:])
    peak = np.abs(split).max(axis=2, keepdims=True) / 7
    plain = np.rint(split / np.where(peak > 0, peak, 1)) * peak
    ours = rounded(FORMATS["int4"], weight)
    unclipped = np.square(plain - split).sum(dtype=np.float64)
    assert np.square(ours - weight).sum(dtype=np.float64) <= unclipped * 1.0001 + 1e-12


@given(arrays.arrays(np.float32, 64, elements=st.floats(-500, 500, width=32)))
def test_float8_is_that_of_ml_dtypes(values: np.ndarray) -> None:
    theirs = np.clip(values, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    np.testing.assert_array_equal(to_float8(values), theirs)


def test_float8_reaches_its_largest_number() -> None:
    weight = _weight(16, 32)
    values, scale = float8(weight)
    assert np.abs(values).max() == 448
    assert np.square(values * scale - weight).mean() < np.square(weight).mean() * 2**-10


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"float"}))
@pytest.mark.parametrize("shape", [(32, 64), (16, 24, 3, 3), (32, 16, 1, 1)])
def test_more_bits_are_nearer(name: str, shape: tuple[int, ...]) -> None:
    weight = _weight(*shape)
    result = rounded(FORMATS[name], weight)
    assert result.dtype == np.float32
    assert result.shape == weight.shape
    error = np.square(result - weight).mean() / np.square(weight).mean()
    # Uniform steps over about eight standard deviations, and what half of the weights hold.
    bound = 0.15 if FORMATS[name].sparse else 4.0 ** (1.7 - FORMATS[name].bits)
    assert error < (bound if FORMATS[name].kind != "float8" else 2**-10)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_weights_that_are_all_zero_stay_so(name: str) -> None:
    weight = np.zeros((32, 64), np.float32)
    np.testing.assert_array_equal(rounded(FORMATS[name], weight), weight)


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"float"}))
def test_what_is_rounded_already_stays(name: str) -> None:
    # Of blocks and channels without the largest magnitude the scale would change.
    if FORMATS[name].kind == "integer":
        pytest.skip("scales are of the largest magnitude that is there")
    once = rounded(FORMATS[name], _weight(32, 64))
    np.testing.assert_allclose(rounded(FORMATS[name], once), once, rtol=2e-3)


def test_sparse_weights_keep_the_larger_half() -> None:
    weight = _weight(32, 64).astype(np.float16)
    mask = kept(FORMATS["sparse50-palette6"], weight)
    assert mask.sum() == weight.size // 2
    assert np.abs(weight[mask]).min() >= np.abs(weight[~mask]).max()
    result = rounded(FORMATS["sparse50-palette6"], weight.astype(np.float32))
    assert not result[~mask].any()
    assert len(np.unique(result[mask])) <= 64


def test_groups_have_their_own_palettes() -> None:
    weight = np.concatenate([_weight(16, 256), 100 * _weight(16, 256, seed=1)]).astype(np.float16)
    colours, indices = palettes(FORMATS["palette4-grouped"], weight)
    assert colours.shape == (2, 16)
    assert indices.shape == weight.shape
    assert np.abs(colours[1]).max() > 50 * np.abs(colours[0]).max()
