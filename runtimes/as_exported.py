"""Recorded calls of diffusers' modules as a bundle sees them, where it was exported otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..core.manifest import Manifest
from .torch_recording import Case, Trajectory


def as_exported(case: Case, manifest: Manifest, run: Trajectory) -> Case:
    """A recorded call of a component in the terms of a bundle.

    Core ML bundles scale latents by the factor that Apple's library has built in, whatever the
    autoencoder's is.

    Args:
        case: What the reference was fed and gave.
        manifest: Of the bundle.
        run: The run that the call is of, or another of the same reference.
    """
    ours, (factor, shift) = manifest.latents, run.scaling
    if case.role not in {"vae_decoder", "vae_encoder"}:
        return case
    if (factor, shift) == (ours.scaling_factor, ours.shift_factor):
        return case
    ratio = factor / ours.scaling_factor
    offset = ours.shift_factor - shift * ratio
    feed, expected = dict(case.feed), dict(case.expected)
    for arrays in (feed, expected):
        if "latent_sample" in arrays:
            arrays["latent_sample"] = _scaled(arrays["latent_sample"], ratio, offset)
        if "latent_parameters" in arrays:
            mean, log_variance = np.split(arrays["latent_parameters"], 2, axis=1)
            moments = _scaled(mean, ratio, offset), _scaled(log_variance, 1.0, 2 * np.log(ratio))
            arrays["latent_parameters"] = np.concatenate(moments, axis=1)
    return replace(case, feed=feed, expected=expected)


def _scaled(array: NDArray[np.float32], factor: float, offset: float) -> NDArray[np.float32]:
    return array * np.float32(factor) + np.float32(offset)
