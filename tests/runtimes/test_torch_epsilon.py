"""Velocities and samples as noise, against a step of diffusers' schedulers."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import pytest
import torch
from kdexport.core.errors import BundleError
from kdexport.export.load import load_checkpoint
from kdexport.runtimes.torch_epsilon import noise_hook


@pytest.fixture
def checkpoint(micro_pipeline):
    return load_checkpoint(str(micro_pipeline))


def ddim(prediction):
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", prediction_type=prediction, clip_sample=False
    )
    scheduler.set_timesteps(1000)
    return scheduler


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
@pytest.mark.parametrize("timestep", [1, 500, 981])
def test_a_step_is_the_same(checkpoint, prediction, timestep):
    own = ddim(prediction)
    config = {"_class_name": "DDIMScheduler", **own.config}
    changed, hook = noise_hook(replace(checkpoint, scheduler=config))
    assert changed.scheduler["prediction_type"] == "epsilon"
    torch.manual_seed(0)
    sample, predicted = torch.randn(2, 1, 4, 8, 8)
    (noise,) = hook(None, (sample, torch.tensor(timestep)), {}, (predicted,))
    ours = ddim("epsilon").step(noise, timestep, sample).prev_sample
    theirs = own.step(predicted, timestep, sample).prev_sample
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_model_that_predicts_noise(checkpoint):
    with pytest.raises(BundleError, match="has a scheduler for the prediction 'epsilon'; name the"):
        noise_hook(checkpoint)
