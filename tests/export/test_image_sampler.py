"""Compiled starts against diffusers' own loop of image to image."""

from __future__ import annotations

import inspect
import json
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, IPNDMScheduler, StableDiffusionImg2ImgPipeline
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kdexport.core.errors import SamplerError
from kdexport.core.image_sampler import ImageSampler
from kdexport.core.sampler import Sampler
from kdexport.export.image_sampler import compile_image_sampler
from kdexport.export.sampler import SCHEDULERS, compile_sampler, load_scheduler, make_scheduler
from kdexport.runtimes.noise import TorchNoise
from kdexport.runtimes.sampler import Stepper
from kdexport.runtimes.start import skipped_steps

SHAPE = (2, 4, 6, 7)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 1, **BETAS}
needs_scipy = pytest.mark.skipif(not find_spec("scipy"), reason="LMS needs scipy")
NAMES = [pytest.param(name, marks=needs_scipy if name == "lms" else ()) for name in SCHEDULERS]


def model(x, t):
    """A smooth stand-in for the U-Net, torch in and out."""
    return 0.9 * torch.tanh(x + t / 1000) + 0.1 * x.roll(1, -1)


def picture():
    return 2 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))


def diffusers_latent(scheduler, steps, strength, seed):
    """`StableDiffusionImg2ImgPipeline` from `set_timesteps` to the final latent, float32."""
    generator = torch.Generator().manual_seed(seed)
    scheduler.set_timesteps(steps, device="cpu")
    pipeline = SimpleNamespace(scheduler=scheduler)
    timesteps, _ = StableDiffusionImg2ImgPipeline.get_timesteps(pipeline, steps, strength, "cpu")
    noise = torch.randn(SHAPE, generator=generator)
    latent = scheduler.add_noise(picture(), noise, timesteps[:1].repeat(len(noise)))
    accepted = inspect.signature(scheduler.step).parameters
    extra = {"eta": 0.0, "generator": generator}
    extra = {key: value for key, value in extra.items() if key in accepted}
    for t in timesteps:
        output = model(scheduler.scale_model_input(latent, t), float(t))
        latent = scheduler.step(output, t, latent, **extra, return_dict=False)[0]
    return latent.numpy()


def table_latent(sampler, starts, steps, strength, seed):
    start = starts.start(steps, skipped_steps(strength, steps))
    stream = TorchNoise(seed)
    first = start.first_latent(picture().numpy(), stream.normal(SHAPE))
    stepper = Stepper(start.table(sampler.table(steps)), first, lambda: stream.normal(SHAPE))
    while not stepper.done:
        stepper.push(model(torch.from_numpy(stepper.input()), stepper.timestep).numpy())
    return stepper.latent()


def compiled(scheduler, steps):
    """Both kinds of tables as a bundle's files hold them."""
    sampler = compile_sampler("x", scheduler, steps)
    starts = compile_image_sampler(scheduler, sampler)
    through = [json.loads(json.dumps(each.to_json())) for each in (sampler, starts)]
    return Sampler.from_json(through[0]), ImageSampler.from_json(through[1])


def assert_follows(scheduler, steps, strengths, seed=0):
    sampler, starts = compiled(scheduler, [steps])
    for strength in strengths:
        theirs = diffusers_latent(scheduler, steps, strength, seed)
        ours = table_latent(sampler, starts, steps, strength, seed)
        assert np.abs(ours - theirs).max() <= 1e-5 * max(1.0, np.abs(theirs).max()), strength


@pytest.mark.parametrize("name", NAMES)
def test_named_schedulers_draw_what_diffusers_draws(name):
    assert_follows(make_scheduler(name, SD), 7, [1.0, 0.9, 0.6, 0.3, 0.15])


@pytest.mark.parametrize("name", ["pndm", "ddim", "dpm++2m-sde", "lcm"])
def test_one_step(name):
    assert_follows(make_scheduler(name, SD), 1, [1.0])


@pytest.mark.parametrize(
    "config",
    [
        {**SD, "prediction_type": "v_prediction"},
        {**SD, "skip_prk_steps": False},
        {**SD, "_class_name": "SASolverScheduler"},
        {**SD, "_class_name": "DPMSolverMultistepScheduler", "solver_order": 3},
        {**SD, "_class_name": "UniPCMultistepScheduler", "use_karras_sigmas": True},
        {
            **SD,
            "_class_name": "DDIMScheduler",
            "clip_sample": False,
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
        },
    ],
    ids=lambda config: f"{config['_class_name']}-{list(config)[-1]}",
)
def test_models_own_schedulers_draw_what_diffusers_draws(config):
    assert_follows(load_scheduler(config), 9, [1.0, 0.7, 0.25])


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from([name for name in SCHEDULERS if name != "lms"]),
    steps=st.integers(1, 12),
    strength=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_strength_follows_diffusers(name, steps, strength, seed):
    assume(int(steps * strength) >= 1)
    assert_follows(make_scheduler(name, SD), steps, [strength], seed)


@pytest.mark.parametrize(
    ("name", "most"),
    [("ddim", 0), ("euler", 0), ("lcm", 0), ("ddpm", 0), ("dpm++2m", 2), ("unipc", 3), ("pndm", 4)],
)
def test_a_start_keeps_the_columns_of_the_solvers_memory_only(name, most):
    scheduler = make_scheduler(name, SD)
    starts = compile_image_sampler(scheduler, compile_sampler(name, scheduler, [20])).starts[20]
    assert len(starts) == 20
    assert max(len(start.outputs) for start in starts) <= most
    assert starts[0].outputs == ()
    assert max(len(start.fresh) for start in starts) == 0
    # PNDM makes one call more than it has steps, so one is left over at the end as well.
    more = 1 if name == "pndm" else 0
    assert [start.calls for start in starts[-3:]] == [3 + more, 2 + more, 1 + more]


def test_strength_one_keeps_the_picture_in_the_noise():
    scheduler = make_scheduler("ddim", SD)
    start = compile_image_sampler(scheduler, compile_sampler("x", scheduler, [4])).start(4, 0)
    alpha = float(scheduler.alphas_cumprod[751])
    assert start.signal == pytest.approx(alpha**0.5, rel=1e-6)
    assert start.noise == pytest.approx((1 - alpha) ** 0.5, rel=1e-6)
    assert start.latent[0] == 1.0


def test_compiling_leaves_the_scheduler_alone():
    scheduler = make_scheduler("dpm++2m-sde", SD)
    before = diffusers_latent(scheduler, 5, 0.6, 3)
    compile_image_sampler(scheduler, compile_sampler("x", scheduler, [8]))
    assert len(scheduler.timesteps) == 5
    np.testing.assert_array_equal(diffusers_latent(scheduler, 5, 0.6, 3), before)


def test_a_scheduler_without_add_noise_has_no_starts():
    assert compile_image_sampler(IPNDMScheduler(), Sampler("x", "IPNDMScheduler", {}, {})) is None


class _Clipped(DDIMScheduler):
    """Nonlinear where it begins, and nowhere else."""

    def add_noise(self, original_samples, noise, timesteps):
        return super().add_noise(original_samples.clamp(-1, 1), noise, timesteps)


class _Doubled(DDIMScheduler):
    """Says that it makes two calls a step, and makes one."""

    order = 2


class _Failing(DDIMScheduler):
    """Cannot begin in the middle."""

    def add_noise(self, original_samples, noise, timesteps):
        if timesteps[0] < 500:
            raise ValueError("too late")
        return super().add_noise(original_samples, noise, timesteps)


class _Early(DDIMScheduler):
    """Draws noise in the first step of a run, wherever that is."""

    fresh = True

    def step(self, model_output, timestep, sample, return_dict=True):
        from diffusers.schedulers import scheduling_ddim

        result = super().step(model_output, timestep, sample, return_dict=False)
        if self.fresh:
            self.fresh = False
            return (result[0] + scheduling_ddim.randn_tensor(sample.shape), *result[1:])
        return result


def test_a_start_that_is_not_linear_is_refused():
    scheduler = _Clipped.from_config({**BETAS, "clip_sample": False})
    with pytest.raises(SamplerError, match="_Clipped is not a linear sampler when it begins at"):
        compile_image_sampler(scheduler, compile_sampler("x", scheduler, [4]))


def test_noise_that_is_drawn_elsewhere_is_refused():
    scheduler = _Early.from_config({**BETAS, "clip_sample": False})
    with pytest.raises(SamplerError, match="other timesteps or draws of noise"):
        compile_image_sampler(scheduler, compile_sampler("x", scheduler, [4]))


@pytest.mark.parametrize(("kind", "kept"), [(_Doubled, 2), (_Failing, 2)])
def test_starts_that_diffusers_has_not_are_left_out(kind, kept):
    scheduler = kind.from_config({**BETAS, "clip_sample": False})
    starts = compile_image_sampler(scheduler, compile_sampler("x", scheduler, [4]))
    assert [start is not None for start in starts.starts[4]] == [True] * kept + [False] * (4 - kept)
    with pytest.raises(SamplerError, match="cannot begin at step 4 of 4"):
        starts.start(4, 3)
