"""The reference of bundles that predict noise where their model predicts something else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import torch

from ..core.checkpoint import Checkpoint
from ..core.errors import BundleError
from .torch_recording import Hook


def noise_hook(checkpoint: Checkpoint) -> tuple[Checkpoint, Hook]:
    """What makes diffusers draw with the noise that a U-Net's prediction stands for.

    Multistep schedulers combine predictions of several steps, and to combine noise is not what it
    is to combine velocities: a bundle that predicts noise is compared with this.

    Returns:
        The checkpoint with a scheduler that takes noise, and a forward hook for the U-Net that
        turns its prediction (a velocity as in arXiv 2202.00512, appendix D, or a sample) into it.

    Raises:
        BundleError: The model predicts noise itself, or its scheduler has no noise levels.
    """
    config = dict(checkpoint.scheduler)
    scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    prediction = scheduler.config.get("prediction_type", "epsilon")
    levels = getattr(scheduler, "alphas_cumprod", None)
    if levels is None or prediction not in {"v_prediction", "sample"}:
        raise BundleError(
            "The bundle predicts noise instead of what its model predicted, and the reference "
            f"'{checkpoint.model}' has a scheduler for the prediction '{prediction}'; name the "
            "model that the bundle was made of."
        )
    signal_levels = levels.double().numpy()
    # Fractional timesteps of diffusers' schedulers are interpolated so.
    log_sigmas = 0.5 * np.log((1 - signal_levels) / signal_levels)

    def hook(_: Any, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
        sample, timestep = inputs[0].double(), float(inputs[1])
        sigma = float(np.exp(np.interp(timestep, np.arange(len(log_sigmas)), log_sigmas)))
        signal = (sigma**2 + 1) ** -0.5
        predicted = output[0].double()
        if prediction == "v_prediction":
            noise = signal * predicted + sigma * signal * sample
        else:
            noise = (sample - signal * predicted) / (sigma * signal)
        return (noise.to(torch.float32), *output[1:])

    return replace(checkpoint, scheduler={**config, "prediction_type": "epsilon"}), hook
