"""Building diffusers schedulers: the model's own, and the common ones by name.

Every scheduler keeps the noise schedule that the model was trained on (betas, prediction type,
steps offset): `from_config` takes it over, as `pipe.scheduler = Class.from_config(
pipe.scheduler.config)` does in diffusers.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ..core.errors import CheckpointError, DependencyError, SamplerError, choices

# Several classes clip the predicted image to [-1, 1] by default (DDPM trains on pixels), while a
# PNDM or Euler config need not mention it. Latents reach beyond that range, every Stable Diffusion
# repository ships `clip_sample: false`, and a clipped update is no linear map.
_LATENTS: Mapping[str, Any] = {"clip_sample": False, "thresholding": False}
_DPM: Mapping[str, Any] = {
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
    "use_karras_sigmas": False,
    "thresholding": False,
}

SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ddim": ("DDIMScheduler", _LATENTS),
    "ddim-trailing": ("DDIMScheduler", {**_LATENTS, "timestep_spacing": "trailing"}),
    "ddpm": ("DDPMScheduler", {**_LATENTS, "variance_type": "fixed_small"}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-trailing": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {"clip_sample": False}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
    "kdpm2-ancestral": ("KDPM2AncestralDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpm++2m": ("DPMSolverMultistepScheduler", _DPM),
    "dpm++2m-trailing": (
        "DPMSolverMultistepScheduler",
        {**_DPM, "timestep_spacing": "trailing"},
    ),
    "dpm++2m-karras": ("DPMSolverMultistepScheduler", {**_DPM, "use_karras_sigmas": True}),
    "dpm++2m-sde": ("DPMSolverMultistepScheduler", {**_DPM, "algorithm_type": "sde-dpmsolver++"}),
    # Set here, as diffusers would set it itself, with a warning for each number of steps.
    "dpm++2s": ("DPMSolverSinglestepScheduler", {**_DPM, "lower_order_final": True}),
    "unipc": ("UniPCMultistepScheduler", {"thresholding": False}),
    "deis": (
        "DEISMultistepScheduler",
        {"thresholding": False, "algorithm_type": "deis", "solver_type": "logrho"},
    ),
    "lcm": ("LCMScheduler", _LATENTS),
    "tcd": ("TCDScheduler", _LATENTS),
}


def make_scheduler(name: str, base_config: Mapping[str, Any]) -> SchedulerMixin:
    """Builds the scheduler `name` on the noise schedule of a model.

    Args:
        name: A key of `SCHEDULERS`.
        base_config: Config of the model's own scheduler (`pipe.scheduler.config`, or its
            `scheduler_config.json`).

    Returns:
        A new diffusers scheduler.

    Raises:
        SamplerError: The name is unknown.
        CheckpointError: The config holds a value that the scheduler refuses.
        DependencyError: The scheduler needs a package that is not installed.
    """
    if name not in SCHEDULERS:
        raise SamplerError(f"There is no scheduler '{name}'; choose {choices(SCHEDULERS)}.")
    class_name, overrides = SCHEDULERS[name]
    scheduler = _scheduler_class(class_name)
    # Settings that only the model's own class knows; diffusers warns of some of them.
    known = inspect.signature(scheduler.__init__).parameters
    config = {key: base_config[key] for key in base_config if key in known or key[:1] == "_"}
    return _build(scheduler, config, overrides)


def load_scheduler(config: Mapping[str, Any]) -> SchedulerMixin:
    """Builds the scheduler that a `scheduler_config.json` describes.

    Args:
        config: The file's contents; `_class_name` names the diffusers class.

    Returns:
        A new diffusers scheduler.

    Raises:
        CheckpointError: The class is missing or unknown, or refuses a value of the config.
        DependencyError: The scheduler needs a package that is not installed.
    """
    name = config.get("_class_name")
    if not isinstance(name, str):
        raise CheckpointError(
            "The scheduler config has no `_class_name`; add the name of the diffusers scheduler "
            "that the model was made for, such as PNDMScheduler."
        )
    return _build(_scheduler_class(name), dict(config), {})


def fresh_scheduler(scheduler: SchedulerMixin, *off: str) -> SchedulerMixin:
    """A scheduler of the same class and config that has not run yet.

    Args:
        scheduler: A scheduler that `StableDiffusionPipeline` can drive; it is not changed.
        *off: Settings of its config to make false.

    Returns:
        A new scheduler.

    Raises:
        SamplerError: The pipeline cannot drive it.
    """
    _check_interface(scheduler)
    return type(scheduler).from_config(scheduler.config, **dict.fromkeys(off, False))


def _check_interface(scheduler: SchedulerMixin) -> None:
    """Raises `SamplerError` for a scheduler that latent diffusion pipelines cannot drive."""
    name = type(scheduler).__name__
    needed = ("init_noise_sigma", "scale_model_input", "set_timesteps", "step")
    lacking = [part for part in needed if not hasattr(scheduler, part)]
    if lacking:
        raise SamplerError(
            f"{name} is not made for Stable Diffusion: it has no {', '.join(lacking)}; choose "
            "another scheduler."
        )
    parameters = list(inspect.signature(scheduler.step).parameters.values())
    required = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    if required != ["model_output", "timestep", "sample"]:
        raise SamplerError(
            f"{name}.step needs {', '.join(required)} where Stable Diffusion pipelines pass a "
            "model output, a timestep and a sample; choose another scheduler."
        )


def _scheduler_class(name: str) -> type[SchedulerMixin]:
    found = getattr(diffusers, name, None)
    # diffusers puts a placeholder that lists the missing packages where it cannot import a class.
    missing = getattr(found, "_backends", None)
    if isinstance(found, type) and missing is not None:
        raise DependencyError(
            f"{name} needs {' and '.join(missing)}, not all of which are installed; install them "
            "or choose another scheduler."
        )
    if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
        raise CheckpointError(
            f"diffusers {diffusers.__version__} has no scheduler '{name}'; correct `_class_name` "
            "in scheduler_config.json, or install the diffusers version that the model needs."
        )
    return found


def _build(
    scheduler: type[SchedulerMixin], config: dict[str, Any], overrides: Mapping[str, Any]
) -> SchedulerMixin:
    try:
        # Overrides go in as keywords: merged into the config, those that it lists under
        # `_use_default_values` would be dropped.
        return scheduler.from_config(config, **overrides)
    except ImportError as error:
        raise DependencyError(f"{scheduler.__name__} cannot be built: {error}") from error
    except (TypeError, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"{scheduler.__name__} refuses the scheduler config ({error}); correct the value in "
            "scheduler_config.json."
        ) from error
