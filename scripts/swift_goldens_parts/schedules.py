"""The schedulers whose runs are written: all names that can be asked for, and models' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdexport.export.sampler import SCHEDULERS, load_scheduler, make_scheduler
from kdexport.export.zoo import zoo

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 1, **BETAS}
SDXL = {**SD, "_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}
V = {"prediction_type": "v_prediction"}
ZERO_SNR = {**V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
KARRAS = {"use_karras_sigmas": True}

# Schedulers that a checkpoint could bring: diffusers class and changes to SD.
_CONFIGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "pndm-prk": ("PNDMScheduler", {"skip_prk_steps": False}),
    "ddim-v-zero-snr": ("DDIMScheduler", {**ZERO_SNR, "clip_sample": False}),
    "ddim-sample": ("DDIMScheduler", {"clip_sample": False, "prediction_type": "sample"}),
    "euler-v-zero-snr": ("EulerDiscreteScheduler", ZERO_SNR),
    "euler-karras": ("EulerDiscreteScheduler", KARRAS),
    "heun-karras": ("HeunDiscreteScheduler", KARRAS),
    "dpm++3m": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "dpm++2m-exponential": ("DPMSolverMultistepScheduler", {"use_exponential_sigmas": True}),
    "unipc-karras": ("UniPCMultistepScheduler", KARRAS),
    "sa-solver": ("SASolverScheduler", {}),
    "edm-euler": ("EDMEulerScheduler", {}),
}


def schedulers() -> dict[str, Any]:
    """New diffusers schedulers by a name of their own."""
    bases = {"sd": SD, "sdxl": SDXL, "v": {**SD, **V}}
    found = {
        f"{base}-{name}": make_scheduler(name, config)
        for base, config in bases.items()
        for name in SCHEDULERS
    }
    for name, (class_name, changes) in _CONFIGS.items():
        found[f"own-{name}"] = load_scheduler({**SD, **changes, "_class_name": class_name})
    return found | _zoo()


def _zoo() -> dict[str, Any]:
    """What the models of the zoo ship, one of each kind, named by the first that has it."""
    found: dict[str, Any] = {}
    configs: list[Mapping[str, Any]] = []
    for name, entry in zoo().items():
        piece = entry.scheduler
        config = {"_class_name": piece.class_name, **piece.config, **entry.scheduler_overrides}
        if config not in configs:
            configs.append(config)
            found[f"zoo-{name}"] = load_scheduler(config)
    return found
