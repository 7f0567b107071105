"""The guidance embedding against diffusers' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.runtimes.guidance import guidance_embedding


def diffusers_embedding(guidance, size):
    weight = torch.tensor(guidance - 1).repeat(1)
    embed = LatentConsistencyModelPipeline.get_guidance_scale_embedding
    return embed(None, weight, embedding_dim=size)[0].numpy()


@settings(deadline=None)
@given(guidance=st.floats(0.0, 20.0), size=st.integers(4, 300))
def test_it_is_diffusers_embedding(guidance, size):
    ours, theirs = guidance_embedding(guidance, size), diffusers_embedding(guidance, size)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape == (size,)
    # One bit of a frequency times the largest angle.
    tolerance = 1e-6 + 1000 * abs(guidance - 1) * 2.0**-23
    assert np.abs(ours - theirs).max() <= tolerance


@pytest.mark.parametrize("size", [4, 256])
def test_no_guidance_has_the_angle_zero(size):
    embedding = guidance_embedding(1.0, size)
    np.testing.assert_array_equal(embedding, [0.0] * (size // 2) + [1.0] * (size // 2))


def test_an_odd_size_ends_with_a_zero():
    embedding = guidance_embedding(8.5, 7)
    assert embedding[-1] == 0.0
    np.testing.assert_array_equal(embedding[:6], guidance_embedding(8.5, 6))
