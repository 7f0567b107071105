"""Recorded calls in the terms of a Core ML bundle, whose latents have another factor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kdexport.core.manifest import Latents
from kdexport.runtimes.as_exported import as_exported
from kdexport.runtimes.torch_recording import Case, Trajectory


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture
def run():
    return Trajectory(plan=None, scaling=(1.0, 0.0))


def test_latents_of_another_factor(sd, run):
    manifest = replace(sd.manifest, latents=Latents(4, 8, 0.18215, 0.0))
    run.scaling = (0.5, 0.25)
    latents = numbers(1, 4, 8, 8)
    own = {"latent_sample": latents / 0.5 + 0.25}
    case = as_exported(Case("vae_decoder", "", own, {"sample": latents}), manifest, run)
    np.testing.assert_allclose(case.feed["latent_sample"], latents / 0.18215, rtol=1e-5, atol=1e-5)
    assert case.expected["sample"] is latents


def test_moments_of_another_factor(sd, run):
    manifest = replace(sd.manifest, latents=Latents(4, 8, 0.18215, 0.0))
    run.scaling = (0.36430, 0.0)
    moments = numbers(1, 8, 8, 8)
    case = Case("vae_encoder", "", {"sample": moments}, {"latent_parameters": moments})
    mean, log_variance = np.split(
        as_exported(case, manifest, run).expected["latent_parameters"], 2, axis=1
    )
    np.testing.assert_allclose(mean, 2 * moments[:, :4], rtol=1e-5)
    # The deviation doubles with the mean.
    ratio = np.exp(0.5 * (log_variance - moments[:, 4:]))
    np.testing.assert_allclose(ratio, 2, rtol=1e-5)


def test_what_is_the_same_is_left_alone(sd, run):
    run.scaling = (sd.manifest.latents.scaling_factor, sd.manifest.latents.shift_factor)
    for role in ("vae_decoder", "unet", "text_encoder"):
        case = Case(role, "", {}, {})
        assert as_exported(case, sd.manifest, run) is case
