"""Compiled samplers against diffusers' own schedulers."""

from __future__ import annotations

import inspect
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core.errors import SamplerError
from kdexport.export.sampler import (
    SCHEDULERS,
    compile_sampler,
    compile_table,
    load_scheduler,
    make_scheduler,
)
from kdexport.runtimes.noise import TorchNoise
from kdexport.runtimes.sampler import Stepper

SHAPE = (1, 4, 8, 8)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 1, **BETAS}
needs_scipy = pytest.mark.skipif(not find_spec("scipy"), reason="LMS needs scipy")
NAMES = [pytest.param(name, marks=needs_scipy if name == "lms" else ()) for name in SCHEDULERS]


def model(x, t):
    """A smooth stand-in for the U-Net, torch in and out."""
    return 0.9 * torch.tanh(x + t / 1000) + 0.1 * x.roll(1, -1)


def diffusers_latent(scheduler, steps, seed, shape=SHAPE):
    """The denoising loop of `StableDiffusionPipeline`, float32."""
    generator = torch.Generator("cpu").manual_seed(seed)
    scheduler.set_timesteps(steps, device="cpu")
    latent = torch.randn(shape, generator=generator) * scheduler.init_noise_sigma
    accepted = inspect.signature(scheduler.step).parameters
    extra = {"eta": 0.0, "generator": generator}
    extra = {key: value for key, value in extra.items() if key in accepted}
    for t in scheduler.timesteps:
        output = model(scheduler.scale_model_input(latent, t), float(t))
        latent = scheduler.step(output, t, latent, **extra, return_dict=False)[0]
    return latent.numpy()


def table_latent(table, seed, shape=SHAPE):
    noise = TorchNoise(seed)
    stepper = Stepper(table, noise.normal(shape), lambda: noise.normal(shape))
    while not stepper.done:
        stepper.push(model(torch.from_numpy(stepper.input()), stepper.timestep).numpy())
    return stepper.latent()


def assert_follows(scheduler, steps, seed=0, shape=SHAPE):
    theirs = diffusers_latent(scheduler, steps, seed, shape)
    ours = table_latent(compile_table(scheduler, steps), seed, shape)
    # diffusers rounds latents of the size of the first sigma (4096 at zero SNR) to float32.
    rounding = 2.0**-24 * float(scheduler.init_noise_sigma)
    assert np.abs(ours - theirs).max() <= 1e-5 * max(1.0, np.abs(theirs).max()) + rounding


@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize("name", NAMES)
def test_named_schedulers_draw_what_diffusers_draws(name, steps):
    assert_follows(make_scheduler(name, SD), steps)


@pytest.mark.parametrize(
    "config",
    [
        {**SD, "prediction_type": "v_prediction"},
        {**SD, "skip_prk_steps": False},
        {**SD, "_class_name": "DDIMScheduler", "prediction_type": "sample", "clip_sample": False},
        {
            **SD,
            "_class_name": "EulerDiscreteScheduler",
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
        },
        {**SD, "_class_name": "EDMEulerScheduler"},
        {**SD, "_class_name": "SASolverScheduler"},
        {**SD, "_class_name": "DPMSolverMultistepScheduler", "solver_order": 3},
        {**SD, "_class_name": "UniPCMultistepScheduler", "use_exponential_sigmas": True},
    ],
    ids=lambda config: f"{config['_class_name']}-{list(config)[-1]}",
)
def test_models_own_schedulers_draw_what_diffusers_draws(config):
    assert_follows(load_scheduler(config), 10)


def test_a_batch_shares_one_stream_of_noise():
    assert_follows(make_scheduler("dpm++2m-sde", SD), 5, seed=2**40 + 3, shape=(3, 4, 10, 7))


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from([name for name in SCHEDULERS if name != "lms"]),
    steps=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
    prediction=st.sampled_from(["epsilon", "v_prediction"]),
    offset=st.integers(0, 1),
)
def test_any_step_count_and_seed_follows_diffusers(name, steps, seed, prediction, offset):
    base = {**SD, "prediction_type": prediction, "steps_offset": offset}
    assert_follows(make_scheduler(name, base), steps, seed)


@pytest.mark.parametrize("base", ["pndm", "ddpm", "euler", "dpm++2m-sde", "unipc", "deis", "lcm"])
def test_every_scheduler_can_follow_every_models_own(base):
    config = make_scheduler(base, SD).config
    for name in SCHEDULERS:
        if name != "lms":
            table = compile_table(make_scheduler(name, config), 3)
            assert table.calls >= 3


def test_compiling_leaves_the_scheduler_alone():
    scheduler = make_scheduler("dpm++2m-sde", SD)
    before = diffusers_latent(scheduler, 5, 3)
    compile_table(scheduler, 8)
    assert len(scheduler.timesteps) == 5
    np.testing.assert_array_equal(diffusers_latent(scheduler, 5, 3), before)


def test_sampler_records_where_it_came_from():
    sampler = compile_sampler("own", load_scheduler(SD), [4, 2, 4])
    assert (sampler.name, sampler.scheduler) == ("own", "PNDMScheduler")
    assert list(sampler.tables) == [2, 4]
    rebuilt = load_scheduler(sampler.config)
    assert compile_table(rebuilt, 4) == sampler.tables[4]


@pytest.mark.parametrize(
    ("config", "steps", "present"),
    [
        ({**SD, "_class_name": "LCMScheduler", "clip_sample": False}, (4, 50, 51, 60), [4, 50]),
        ({**SD, "_class_name": "TCDScheduler", "clip_sample": False}, (4, 50, 51, 60), [4, 50]),
        ({**SD, "_class_name": "DDPMScheduler", "num_train_timesteps": 99}, (33, 100), [33]),
        ({**SD, "skip_prk_steps": False}, (1, 2, 3, 4, 50), [4, 50]),
    ],
    ids=["lcm", "tcd", "ddpm", "pndm-prk"],
)
def test_refused_step_counts_are_left_out(config, steps, present):
    scheduler = load_scheduler({**config, "clip_sample": False})
    assert list(compile_sampler("x", scheduler, steps).tables) == present
    for refused in set(steps) - set(present):
        with pytest.raises(ValueError, match=r"\w"):  # diffusers' own loop refuses it as well
            diffusers_latent(scheduler, refused, 0)


def test_no_step_count_left_is_an_error():
    scheduler = make_scheduler("lcm", SD)
    with pytest.raises(SamplerError, match=r"LCMScheduler cannot run 60 steps .*original_steps"):
        compile_sampler("lcm", scheduler, [51, 60])
    with pytest.raises(SamplerError, match="'lcm' was given no number of steps"):
        compile_sampler("lcm", scheduler, [])


@pytest.mark.parametrize("steps", [0, -3])
def test_impossible_step_counts_are_an_error(steps):
    with pytest.raises(SamplerError, match="ask for at least 1"):
        compile_sampler("ddim", make_scheduler("ddim", SD), [steps, 4])
