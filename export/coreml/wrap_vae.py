"""The VAE's decoder and encoder as Core ML models, with Apple's fixed scaling made to fit.

Apple's package divides latents by a factor of its own before it decodes them, and multiplies what
it encodes by it: 0.18215, for SDXL 0.13025. Where the VAE has another factor or a shift, the
difference is part of the model.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..wrap import vae_factor
from .attention import coreml_attention
from .ports import AppleModule, ApplePort

# By the family of the pipeline: `decoderScaleFactor` of Apple's command-line program.
LIBRARY_FACTORS = {"sd": 0.18215, "sdxl": 0.13025}

# Apple's package draws from a normal distribution around the mean; exp(-30 / 2) is next to nothing,
# and -30 is where the package clamps.
_NO_VARIANCE = -30.0


class AppleVae(AppleModule):
    """What decoder and encoder have in common.

    Attributes:
        library_factor: What the caller divides latents by before decoding, and multiplies them by
            after encoding.
        ratio: The caller's factor over the VAE's own.
        shift: What the VAE adds to latents before decoding.
    """

    def __init__(
        self, inner: Any, attention: str, slice_size: int | None, library_factor: float
    ) -> None:
        """Wraps a VAE; see `AppleDecoder`."""
        super().__init__(inner)
        coreml_attention(inner, attention, slice_size)
        self.library_factor = library_factor
        self.ratio = library_factor / float(inner.config.scaling_factor)
        self.shift = float(getattr(inner.config, "shift_factor", None) or 0.0)


class AppleDecoder(AppleVae):
    """A VAE decoder: latents over the library's factor to an image in [-1, 1]."""

    summary = "Decodes latents to an image."
    used = ("post_quant_conv", "decoder")

    def __init__(
        self,
        inner: Any,
        attention: str = "original",
        slice_size: int | None = None,
        library_factor: float = LIBRARY_FACTORS["sd"],
        edge: torch.dtype = torch.float16,
    ) -> None:
        """Wraps the decoder of a VAE, which is changed in place.

        Args:
            inner: An `AutoencoderKL` or an `AutoencoderTiny`.
            attention: How its middle block computes attention, see `coreml_attention`.
            slice_size: Queries per slice, see `coreml_attention`.
            library_factor: What the caller divides latents by, see `LIBRARY_FACTORS`.
            edge: Type of the latents: float16; float32 for SDXL with the VAE of its own.
        """
        super().__init__(inner, attention, slice_size, library_factor)
        pixels, config = vae_factor(inner.config), inner.config
        latents = (1, config.latent_channels, "height", "width")
        image = (1, config.out_channels, f"{pixels} * height", f"{pixels} * width")
        divided = f"Latents divided by {library_factor}."
        self.inputs = (ApplePort("z", edge, latents, divided, "latent_sample"),)
        shown = "The image: red, green and blue between -1 and 1."
        self.outputs = (ApplePort("image", torch.float32, image, shown, "sample"),)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `AppleModule.forward`."""
        latents = inputs[0] if self.ratio == 1.0 else inputs[0] * self.ratio
        if self.shift:
            latents = latents + self.shift
        return (self.inner.decode(latents, return_dict=False)[0],)


class AppleEncoder(AppleVae):
    """A VAE encoder: an image in [-1, 1] to mean and log-variance of its latents.

    The mean comes first along the channels. Apple's package draws latents from them and multiplies
    by its factor. Tiny autoencoders give latents without variance.
    """

    summary = "Encodes an image to the distribution of its latents."
    used = ("encoder", "quant_conv")

    def __init__(
        self,
        inner: Any,
        attention: str = "original",
        slice_size: int | None = None,
        library_factor: float = LIBRARY_FACTORS["sd"],
        edge: torch.dtype = torch.float16,
    ) -> None:
        """Wraps the encoder of a VAE, which is changed in place.

        Args:
            inner: An `AutoencoderKL` or an `AutoencoderTiny`.
            attention: How its middle block computes attention, see `coreml_attention`.
            slice_size: Queries per slice, see `coreml_attention`.
            library_factor: What the caller multiplies latents by, see `LIBRARY_FACTORS`.
            edge: Type of the image: float16; float32 for SDXL.
        """
        super().__init__(inner, attention, slice_size, library_factor)
        pixels, config = vae_factor(inner.config), inner.config
        self.tiny = not hasattr(inner, "quant_conv")
        image = (1, config.in_channels, f"{pixels} * height", f"{pixels} * width")
        shown = "The image: red, green and blue between -1 and 1."
        self.inputs = (ApplePort("x", edge, image, shown, "sample"),)
        moments = (1, 2 * config.latent_channels, "height", "width")
        told = f"Mean and log-variance of the latents divided by {library_factor}."
        # Who draws the latents itself has no use for a variance that is not there.
        alias = "latent_sample" if self.tiny else "latent_parameters"
        self.outputs = (ApplePort("latent", torch.float32, moments, told, alias),)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `AppleModule.forward`."""
        encoded = self.inner.encode(inputs[0], return_dict=False)[0]
        if self.tiny:
            mean = self._fit(encoded)
            return (torch.cat([mean, torch.full_like(mean, _NO_VARIANCE)], dim=1),)
        if self.ratio == 1.0 and not self.shift:
            return (encoded.parameters,)
        mean, variance = encoded.parameters.chunk(2, dim=1)
        return (torch.cat([self._fit(mean), variance - 2 * math.log(self.ratio)], dim=1),)

    def _fit(self, latents: Tensor) -> Tensor:
        """Latents of the VAE to what the library's factor turns into those of the U-Net."""
        shifted = latents - self.shift if self.shift else latents
        return shifted if self.ratio == 1.0 else shifted / self.ratio
