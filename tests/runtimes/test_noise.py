"""Noise without torch, against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core.errors import OptionError
from kdexport.runtimes.noise import TorchNoise

# Of the larger of 1 and the value. Without AVX2 torch rounds the angle of its numbers differently.
TOLERANCE = 5e-7 if torch.backends.cpu.get_cpu_capability() != "DEFAULT" else 3e-6

seeds = st.integers(-(2**63), 2**64 - 1)
shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple)


def torch_draws(seed, shape_list):
    generator = torch.Generator("cpu").manual_seed(seed)
    return [torch.randn(shape, generator=generator).numpy() for shape in shape_list]


def assert_same(ours, theirs):
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    if ours.size < 16:
        np.testing.assert_array_equal(ours, theirs)
    else:
        error = np.abs(ours - theirs.astype(np.float64)) / np.maximum(1, np.abs(theirs))
        assert error.max() <= TOLERANCE


@settings(max_examples=200, deadline=None)
@given(seed=seeds, shape_list=st.lists(shapes, min_size=1, max_size=6))
def test_successive_draws_are_those_of_one_generator(seed, shape_list):
    noise = TorchNoise(seed)
    for shape, theirs in zip(shape_list, torch_draws(seed, shape_list), strict=True):
        assert_same(noise.normal(shape), theirs)


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1, 2**32, 2**32 + 5, 2**64 - 1, -1, -(2**63)])
@pytest.mark.parametrize(
    "shape", [(1, 4, 64, 64), (2, 4, 128, 96), (17,), (31,), (33,), (15,), (16,), (1,), (), (0, 4)]
)
def test_seeds_and_shapes(seed, shape):
    noise = TorchNoise(seed)
    for theirs in torch_draws(seed, [shape, shape]):
        assert_same(noise.normal(shape), theirs)


def test_the_second_number_of_a_short_draw_waits_behind_a_long_one():
    shape_list = [(3,), (20,), (1,), (4, 16), (2,)]
    noise = TorchNoise(7)
    for shape, theirs in zip(shape_list, torch_draws(7, shape_list), strict=True):
        assert_same(noise.normal(shape), theirs)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_only_the_low_half_of_a_seed_counts(seed):
    np.testing.assert_array_equal(
        TorchNoise(seed).normal((20,)), TorchNoise(seed + 2**32).normal((20,))
    )


def test_numpy_integers_are_seeds():
    np.testing.assert_array_equal(TorchNoise(np.int64(3)).normal((5,)), TorchNoise(3).normal((5,)))


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 1.5, "1", None, True])
def test_a_seed_that_torch_would_refuse_is_refused(seed):
    with pytest.raises(OptionError, match="A seed is an integer from"):
        TorchNoise(seed)


def test_a_negative_size_is_refused():
    with pytest.raises(OptionError, match=r"cannot have the shape \(4, -1\)"):
        TorchNoise(0).normal((4, -1))
