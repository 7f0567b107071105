"""Building schedulers by name and from a config."""

from __future__ import annotations

import importlib.util

import diffusers
import pytest
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler
from kdexport.core.errors import CheckpointError, DependencyError, SamplerError
from kdexport.export.schedulers import SCHEDULERS, fresh_scheduler, load_scheduler, make_scheduler

SD = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.10.0",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
HAS_SCIPY = importlib.util.find_spec("scipy") is not None
BUILT = [name for name in SCHEDULERS if HAS_SCIPY or name != "lms"]


@pytest.mark.parametrize("name", BUILT)
def test_the_models_noise_schedule_is_kept(name):
    scheduler = make_scheduler(name, {**SD, "prediction_type": "v_prediction", "beta_end": 0.02})
    assert type(scheduler).__name__ == SCHEDULERS[name][0]
    assert scheduler.config.beta_end == 0.02
    assert scheduler.config.beta_schedule == "scaled_linear"
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.get("steps_offset", 1) == 1


@pytest.mark.parametrize("name", BUILT)
def test_overrides_win_over_configs_and_over_their_defaults(name):
    # A config made by a class lists its defaults in `_use_default_values`.
    _, overrides = SCHEDULERS[name]
    opposite = {key: True for key, value in overrides.items() if value is False}
    for base in (PNDMScheduler.from_config(SD).config, {**SD, **opposite}):
        config = make_scheduler(name, base).config
        assert {key: config[key] for key in overrides if key in config} == {
            key: value for key, value in overrides.items() if key in config
        }


def test_trailing_wins_over_a_shipped_leading():
    # KOALA-Lightning ships an Euler config with `leading`; its card asks for trailing.
    base = {**SD, "_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}
    assert make_scheduler("euler-trailing", base).config.timestep_spacing == "trailing"
    assert make_scheduler("euler", base).config.timestep_spacing == "leading"


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(SamplerError, match=r"no scheduler 'plms'; choose ddim, .* or tcd"):
        make_scheduler("plms", SD)


def test_a_config_builds_its_class():
    scheduler = load_scheduler(SD)
    assert type(scheduler) is PNDMScheduler
    assert scheduler.config.steps_offset == 1


@pytest.mark.parametrize(
    "name", ["NoSuchScheduler", "FlaxNoScheduler", "ConfigMixin", "__version__"]
)
def test_an_unknown_class_is_refused(name):
    with pytest.raises(CheckpointError, match=f"{diffusers.__version__} has no scheduler '{name}'"):
        load_scheduler({**SD, "_class_name": name})


@pytest.mark.parametrize("config", [{}, {"_class_name": None}, {"_class_name": ["a", "b"]}])
def test_a_config_without_a_class_is_refused(config):
    with pytest.raises(CheckpointError, match="has no `_class_name`"):
        load_scheduler(config)


@pytest.mark.parametrize(
    "change", [{"beta_schedule": "wavy"}, {"beta_start": "small"}, {"trained_betas": "none"}]
)
def test_values_that_diffusers_refuses_are_named(change):
    with pytest.raises(CheckpointError, match="PNDMScheduler refuses the scheduler config"):
        load_scheduler({**SD, **change})


@pytest.mark.skipif(HAS_SCIPY, reason="scipy is installed")
def test_a_missing_package_is_named():
    with pytest.raises(DependencyError, match="LMSDiscreteScheduler needs torch and scipy"):
        make_scheduler("lms", SD)
    with pytest.raises(DependencyError, match="scipy"):
        load_scheduler({**SD, "_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": True})


def test_a_fresh_scheduler_has_not_run_and_can_be_changed():
    used = EulerDiscreteScheduler(use_karras_sigmas=True)
    used.set_timesteps(3)
    fresh = fresh_scheduler(used)
    assert fresh.num_inference_steps is None
    assert fresh.config.use_karras_sigmas is True
    assert fresh_scheduler(used, "use_karras_sigmas").config.use_karras_sigmas is False
    assert type(fresh_scheduler(DPMSolverMultistepScheduler())) is DPMSolverMultistepScheduler
