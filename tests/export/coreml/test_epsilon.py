"""Predictions turned into noise, against the schedulers of diffusers."""

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core.compare import compare
from kdexport.core.errors import OptionError
from kdexport.export.coreml.epsilon import ToEpsilon, to_epsilon

# Those of Stable Diffusion.
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (1, 4, 8, 6)


def pair(kind, prediction, **config):
    """Two schedulers that differ in what the model predicts."""
    maker = getattr(diffusers, kind)
    return [maker(**BETAS, **config, prediction_type=each) for each in (prediction, "epsilon")]


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
@pytest.mark.parametrize("steps", [1, 4, 25])
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("DDIMScheduler", {"clip_sample": False}),
        ("DDPMScheduler", {"clip_sample": False}),
        ("DPMSolverMultistepScheduler", {}),
        ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}),
        ("EulerDiscreteScheduler", {"timestep_spacing": "leading"}),
    ],
)
def test_steps_at_whole_timesteps(kind, config, prediction, steps):
    own, baked = pair(kind, prediction, **config)
    assert compare_runs(own, baked, steps) < 1e-5


@pytest.mark.parametrize("steps", [3, 8, 25])
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        # Both find their timesteps by the logarithm of sigma.
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
        ("EulerDiscreteScheduler", {"use_exponential_sigmas": True}),
        # This one interpolates sigma itself, which differs in the second order.
        ("EulerDiscreteScheduler", {}),
    ],
)
def test_steps_between_timesteps(kind, config, steps):
    own, baked = pair(kind, "v_prediction", **config)
    own.set_timesteps(steps)
    assert (own.timesteps % 1 != 0).any()
    assert compare_runs(own, baked, steps) < 2e-4


def compare_runs(own, baked, steps):
    """Relative L2 between whole trajectories with the same sequence of predictions."""
    convert = to_epsilon(own)
    for each in (own, baked):
        each.set_timesteps(steps)
    torch.manual_seed(0)
    first = second = torch.randn(SHAPE) * own.init_noise_sigma
    for index, timestep in enumerate(own.timesteps):
        predicted = torch.randn(SHAPE, generator=torch.Generator().manual_seed(index))
        seen = baked.scale_model_input(second, timestep)
        epsilon = convert(predicted, seen, timestep.float().reshape(1))
        first = step(own, predicted, timestep, first)
        second = step(baked, epsilon, timestep, second)
    return compare(second.numpy(), first.numpy()).relative_l2


def step(scheduler, output, timestep, sample):
    """One step, with the same noise in both runs."""
    scheduler.scale_model_input(sample, timestep)
    noise = {}
    if isinstance(scheduler, diffusers.DDPMScheduler):
        noise = {"generator": torch.Generator().manual_seed(int(timestep))}
    return scheduler.step(output, timestep, sample, **noise).prev_sample


@settings(deadline=None, max_examples=50)
@given(
    timesteps=st.lists(st.floats(0, 999), min_size=1, max_size=3),
    prediction=st.sampled_from(["v_prediction", "sample"]),
)
def test_the_noise_comes_back(timesteps, prediction):
    """What a perfect model predicts becomes the noise that was added, at any timestep."""
    scheduler = diffusers.DDIMScheduler(**BETAS, prediction_type=prediction)
    convert = to_epsilon(scheduler)
    time = torch.tensor(timesteps)
    sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt().log()
    low, high = time.floor().long(), time.ceil().long()
    sigma = torch.lerp(sigmas[low], sigmas[high], time - low).exp().reshape(-1, 1, 1, 1)
    signal = 1 / (1 + sigma**2).sqrt()
    torch.manual_seed(0)
    clean, noise = torch.randn(2, len(timesteps), 4, 3, 2)
    sample = signal * (clean + sigma * noise)
    predicted = clean if prediction == "sample" else signal * (noise - sigma * clean)
    got = convert(predicted, sample, time)
    torch.testing.assert_close(got, noise, atol=2e-4, rtol=1e-3)


def test_models_that_predict_noise_need_nothing():
    assert to_epsilon(diffusers.PNDMScheduler(**BETAS)) is None


def test_timesteps_beyond_the_schedule():
    convert = ToEpsilon("v_prediction", torch.tensor([0.9, 0.5]))
    one, other = torch.randn(2, 1, 1, 2, 2)
    last, beyond = (convert(one, other, torch.tensor([each])) for each in (1.0, 7.0))
    assert torch.equal(last, beyond)


@pytest.mark.parametrize("kind", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_schedules_that_end_in_noise(kind):
    scheduler = getattr(diffusers, kind)(
        **BETAS, prediction_type="v_prediction", rescale_betas_zero_snr=True
    )
    with pytest.raises(OptionError, match=r"ends in pure noise \(rescale_betas_zero_snr\).*export"):
        to_epsilon(scheduler)


def test_predictions_that_do_not_exist():
    scheduler = diffusers.DDIMScheduler(**BETAS)
    scheduler.register_to_config(prediction_type="score")
    with pytest.raises(OptionError, match="'score'; choose epsilon, v_prediction or sample"):
        to_epsilon(scheduler)
    with pytest.raises(OptionError, match="'epsilon'; choose v_prediction or sample"):
        ToEpsilon("epsilon", torch.tensor([0.5]))


def test_the_table_is_no_weight():
    assert ToEpsilon("sample", torch.tensor([0.5])).state_dict() == {}
