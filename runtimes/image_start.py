"""The first latents of image to image, as diffusers' pipelines make them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.image_sampler import ImageStart
from ..core.manifest import Latents, Manifest
from .components import Components, call_by_rows, require_finite
from .noise import TorchNoise
from .plan import Plan
from .ports import loop_signature
from .start import to_signed

# Range that diffusers' DiagonalGaussianDistribution keeps the logarithm of the variance in.
_LOG_VARIANCES = (-30.0, 20.0)


@dataclass(frozen=True, eq=False)
class EncodedPicture:
    """A picture that went through the encoder, and how the schedule begins with it.

    Attributes:
        encoded: What the encoder gave for it: latents, or the mean and the logarithm of the
            variance one after the other along the channels; `(1, …, height, width)`, float32.
        sampled: Whether it is the latter, of which latents are drawn.
        space: The latent space.
        start: The start of the schedule.
    """

    encoded: NDArray[np.float32]
    sampled: bool
    space: Latents
    start: ImageStart

    def first_latents(self, stream: TorchNoise, plan: Plan) -> NDArray[np.float32]:
        """Draws the first latents of all images.

        The order is that of diffusers: one draw for the picture, where it is a distribution, which
        all images share; then the noise of all images in one draw.

        Args:
            stream: The noise of the run, from which nothing was drawn yet.
            plan: What is drawn.

        Returns:
            The shape of the plan's latents, float32.
        """
        latents = self._sample(stream) if self.sampled else self.encoded
        space = self.space
        scaled = (latents - np.float32(space.shift_factor)) * np.float32(space.scaling_factor)
        return self.start.first_latent(scaled, stream.normal(plan.latent_shape))

    def _sample(self, stream: TorchNoise) -> NDArray[np.float32]:
        mean, log_variance = np.split(self.encoded, 2, axis=1)
        deviation = np.exp(np.float32(0.5) * np.clip(log_variance, *_LOG_VARIANCES))
        result: NDArray[np.float32] = mean + deviation * stream.normal(mean.shape)
        return result


def encode_picture(
    pixels: NDArray[np.uint8], start: ImageStart, manifest: Manifest, components: Components
) -> EncodedPicture:
    """Encodes the picture of a plan.

    Args:
        pixels: The picture at the plan's size, `(height, width, 3)`, 8-bit RGB.
        start: The start of the schedule.
        manifest: Of the bundle.
        components: Of the bundle.

    Raises:
        RunError: The encoder failed, or gave NaN or infinite values.
    """
    output = loop_signature(manifest.component("vae_encoder")).outputs[0].name
    with components.use("vae_encoder") as encoder:
        encoded = call_by_rows(encoder, "sample", to_signed(pixels), [output])[output]
    require_finite(encoded, "The vae_encoder")
    return EncodedPicture(encoded, output == "latent_parameters", manifest.latents, start)
