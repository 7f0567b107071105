"""Schedulers that no table can hold, and the state that compiling must leave behind."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler
from diffusers.schedulers import scheduling_ddpm
from diffusers.utils.torch_utils import randn_tensor
from kdexport.core.errors import SamplerError
from kdexport.export.sampler import compile_sampler, compile_table, load_scheduler, make_scheduler

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 1, **BETAS}


@pytest.mark.parametrize(
    ("name", "settings", "blamed"),
    [
        ("DDIMScheduler", {}, "clip_sample=True"),
        ("DDIMScheduler", {"clip_sample_range": 25.0}, "clip_sample=True"),
        ("DDPMScheduler", {}, "clip_sample=True"),
        ("HeunDiscreteScheduler", {"clip_sample": True}, "clip_sample=True"),
        ("DDIMScheduler", {"clip_sample": False, "thresholding": True}, "thresholding=True"),
        ("DDIMScheduler", {"thresholding": True}, "thresholding=True and clip_sample=True"),
        ("DPMSolverMultistepScheduler", {"thresholding": True}, "thresholding=True"),
        ("UniPCMultistepScheduler", {"thresholding": True}, "thresholding=True"),
        ("CMStochasticIterativeScheduler", {}, "clip_denoised=True"),
    ],
)
@pytest.mark.parametrize("steps", [1, 10])
def test_a_bent_update_is_refused_and_its_setting_named(name, settings, blamed, steps):
    scheduler = load_scheduler({**BETAS, "_class_name": name, **settings})
    with pytest.raises(SamplerError, match=f"{name} with {blamed} is not a linear sampler"):
        compile_sampler("x", scheduler, [steps])


def test_clip_sample_that_a_scheduler_ignores_is_no_reason_to_refuse():
    # Euler keeps the value of a PNDM config without ever clipping.
    scheduler = load_scheduler({**SD, "_class_name": "EulerDiscreteScheduler", "clip_sample": True})
    assert scheduler.config["clip_sample"] is True
    assert compile_table(scheduler, 3).calls == 3


class _Squashing(EulerDiscreteScheduler):
    """Nonlinear with no setting to turn off."""

    def step(self, model_output, timestep, sample, return_dict=True):
        result = super().step(model_output, timestep, sample, return_dict=False)
        return (torch.tanh(result[0]), *result[1:])


class _OwnNoise(DDIMScheduler):
    """Draws noise behind diffusers' back, as the Brownian tree of DPMSolverSDE does."""

    def step(self, model_output, timestep, sample, return_dict=True):
        latent = super().step(model_output, timestep, sample, return_dict=False)[0]
        return (latent + torch.randn_like(latent),)


class _EarlyNoise(DDPMScheduler):
    def scale_model_input(self, sample, timestep=None):
        return sample + scheduling_ddpm.randn_tensor(sample.shape, device=sample.device)


class _MoodyNoise(DDPMScheduler):
    def step(self, model_output, timestep, sample, generator=None, return_dict=True):
        if sample.abs().max() > 1.0:
            sample = sample + scheduling_ddpm.randn_tensor(sample.shape, device=sample.device)
        return super().step(model_output, timestep, sample, return_dict=False)


class _Broken(DDIMScheduler):
    def step(self, model_output, timestep, sample, return_dict=True):
        raise KeyError("a bug that has nothing to do with the number of steps")


class _WrongDevice(DDIMScheduler):
    def step(self, model_output, timestep, sample, return_dict=True):
        raise RuntimeError("out of luck")


class _Inpainting(DDIMScheduler):
    def step(self, model_output, timestep, sample, mask, return_dict=True):
        raise AssertionError("never reached")


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (_Squashing, "_Squashing is not a linear sampler, whichever of its settings"),
        (_OwnNoise, "_OwnNoise draws its noise by other means than diffusers' randn_tensor"),
        (_EarlyNoise, "_EarlyNoise draws noise before the first model call"),
        (_MoodyNoise, "_MoodyNoise draws more or less noise depending on the latents"),
        (_WrongDevice, "_WrongDevice cannot run with its configuration .*out of luck"),
        (_Inpainting, r"_Inpainting.step needs model_output, timestep, sample, mask where"),
    ],
)
def test_other_schedulers_that_no_table_can_hold(scheduler, message):
    with pytest.raises(SamplerError, match=message):
        compile_sampler("x", scheduler.from_config({**BETAS, "clip_sample": False}), [4])


def test_brownian_noise_is_refused():
    pytest.importorskip("torchsde")
    scheduler = load_scheduler({**BETAS, "_class_name": "DPMSolverSDEScheduler"})
    with pytest.raises(SamplerError, match="draws its noise by other means"):
        compile_table(scheduler, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FlowMatchEulerDiscreteScheduler", "has no init_noise_sigma, scale_model_input"),
        ("ScoreSdeVeScheduler", "has no step"),
        ("RePaintScheduler", "needs model_output, timestep, sample, original_image, mask where"),
    ],
)
def test_schedulers_of_other_pipelines_are_refused(name, message):
    with pytest.raises(SamplerError, match=message):
        compile_table(load_scheduler({"_class_name": name}), 4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prediction_type": "sample", "_class_name": "KDPM2DiscreteScheduler"}, "not implemented"),
        ({"prediction_type": "sample", "_class_name": "PNDMScheduler"}, "must be one of"),
        (
            {"variance_type": "learned", "_class_name": "DDPMScheduler"},
            "cannot run with its config",
        ),
        (
            {"rescale_betas_zero_snr": True, "_class_name": "LCMScheduler", "clip_sample": False},
            "divides by zero at 4 steps",
        ),
    ],
)
def test_configs_that_diffusers_cannot_run_are_refused(config, message):
    with pytest.raises(SamplerError, match=message):
        compile_sampler("x", load_scheduler({**BETAS, **config}), [2, 4])


def test_an_unrelated_exception_is_not_swallowed():
    with pytest.raises(KeyError, match="a bug"):
        compile_sampler("x", _Broken(clip_sample=False, **BETAS), [4])


@pytest.mark.parametrize("scheduler", [_Broken, _WrongDevice, _MoodyNoise])
def test_randn_tensor_is_restored_after_an_exception(scheduler):
    with pytest.raises((KeyError, SamplerError)):
        compile_table(scheduler(clip_sample=False, **BETAS), 4)
    assert scheduling_ddpm.randn_tensor is randn_tensor


def test_randn_tensor_is_restored_after_compiling():
    compile_table(make_scheduler("ddpm", SD), 4)
    assert scheduling_ddpm.randn_tensor is randn_tensor


def test_other_threads_keep_their_noise():
    drawn = []

    def draw():
        drawn.append(
            scheduling_ddpm.randn_tensor((2, 3), generator=torch.Generator().manual_seed(0))
        )

    class Meanwhile(DDPMScheduler):
        def step(self, model_output, timestep, sample, generator=None, return_dict=True):
            assert scheduling_ddpm.randn_tensor is not randn_tensor
            thread = threading.Thread(target=draw)
            thread.start()
            thread.join()
            return super().step(model_output, timestep, sample, return_dict=False)

    table = compile_table(Meanwhile(clip_sample=False, **BETAS), 2)
    assert table.draws == (1, 0)
    expected = torch.randn((2, 3), generator=torch.Generator().manual_seed(0))
    assert len(drawn) == 4  # Two calls in the probe, two on the basis.
    for tensor in drawn:
        np.testing.assert_array_equal(tensor.numpy(), expected.numpy())
