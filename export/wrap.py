"""Tensor-only modules around the components: flat positional inputs, a tuple of tensors out.

Names, order and meaning of inputs and outputs are those of optimum's ONNX pipelines, so that the
exported folder also loads there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .attention import ExportAttention
from .group_norm import use_two_stage_norms


@dataclass(frozen=True)
class Port:
    """One input or output of a wrapped component.

    Each size is a number, the name of a dynamic dimension, or computed with one (`8 * height`,
    `height // 8`; see `dimensions.py`).
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int | str, ...]


class Wrapped(nn.Module, ABC):
    """A component behind flat tensors; weights lie below the attribute `inner`.

    Attributes:
        inner: The diffusers or transformers module.
        inputs: Inputs in the order of `forward`.
        outputs: Outputs in the order of the tuple that `forward` returns.
        multiple: The dimensions `height` and `width` must be multiples of this.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    multiple: int = 1

    def __init__(self, inner: Any, edge: torch.dtype) -> None:
        """Wraps `inner`; `edge` is the type of float inputs and outputs."""
        super().__init__()
        self.inner: Any = inner
        self.edge = edge
        use_two_stage_norms(inner)

    @property
    def core(self) -> torch.dtype:
        """The type of the weights."""
        dtype: torch.dtype = next(self.inner.parameters()).dtype
        return dtype

    @abstractmethod
    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Runs the component on tensors as described by `inputs`."""


class WrappedNet(Wrapped):
    """What U-Nets and ControlNets have in common."""

    def __init__(
        self, inner: Any, edge: torch.dtype, attention: ExportAttention, tokens: int
    ) -> None:
        """Wraps a network; `tokens` is the length of the text embeddings."""
        super().__init__(inner, edge)
        inner.set_attn_processor(attention)
        self.multiple = unet_factor(inner.config)
        self.inputs = unet_ports(inner.config, edge, tokens)
        self.conditioned = inner.config.addition_embed_type == "text_time"
        if self.conditioned:
            inner.add_time_proj = _CastOutput(inner.add_time_proj, self.core)

    def conditions(self, pooled: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """What SDXL is conditioned on beside the text, as diffusers takes it."""
        # Time ids go through a sinusoid, which diffusers computes in float32.
        return {"text_embeds": pooled.to(self.core), "time_ids": sizes.float()}


class WrappedUnet(WrappedNet):
    """A U-Net: latents, timestep and text embeddings to the model output."""

    def __init__(
        self, inner: Any, edge: torch.dtype, attention: ExportAttention, tokens: int
    ) -> None:
        """Wraps a U-Net; `tokens` is the length of the text embeddings."""
        super().__init__(inner, edge, attention, tokens)
        config = inner.config
        if config.time_cond_proj_dim is not None:
            # Latent consistency models take the guidance scale here, as an embedding.
            self.inputs += (Port("timestep_cond", edge, ("batch", config.time_cond_proj_dim)),)
        self.outputs = (
            Port("out_sample", edge, ("batch", config.out_channels, "height", "width")),
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `Wrapped.forward`."""
        return self.predict(inputs)

    def predict(
        self,
        inputs: tuple[Tensor, ...],
        down: tuple[Tensor, ...] | None = None,
        mid: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Runs the U-Net, with the residuals of a ControlNet where there are any."""
        sample, timestep, text, *extra = inputs
        added = self.conditions(extra.pop(0), extra.pop(0)) if self.conditioned else None
        guidance = None
        if self.inner.config.time_cond_proj_dim is not None:
            guidance = extra.pop(0).to(self.core)
        result = self.inner(
            sample.to(self.core),
            timestep,
            text.to(self.core),
            timestep_cond=guidance,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0]
        return (result.to(self.edge),)


class WrappedDecoder(Wrapped):
    """A VAE decoder: unscaled latents to an image in [-1, 1]."""

    def __init__(self, inner: Any, edge: torch.dtype, attention: ExportAttention) -> None:
        super().__init__(inner, edge)
        _set_vae_attention(inner, attention)
        factor = vae_factor(inner.config)
        channels = inner.config.latent_channels
        self.inputs = (Port("latent_sample", edge, ("batch", channels, "height", "width")),)
        image = ("batch", inner.config.out_channels, f"{factor} * height", f"{factor} * width")
        self.outputs = (Port("sample", edge, image),)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `Wrapped.forward`."""
        # `AutoencoderTiny.forward` would quantize the latents to 8 bits; `decode` does not.
        image = self.inner.decode(inputs[0].to(self.core), return_dict=False)[0]
        return (image.to(self.edge),)


class WrappedEncoder(Wrapped):
    """A VAE encoder: an image in [-1, 1] to latents, or to the moments of their distribution."""

    def __init__(self, inner: Any, edge: torch.dtype, attention: ExportAttention) -> None:
        super().__init__(inner, edge)
        _set_vae_attention(inner, attention)
        factor = vae_factor(inner.config)
        config = inner.config
        self.multiple = factor
        self.inputs = (Port("sample", edge, ("batch", config.in_channels, "height", "width")),)
        self.tiny = not hasattr(inner, "quant_conv")
        name = "latent_sample" if self.tiny else "latent_parameters"
        channels = config.latent_channels * (1 if self.tiny else 2)
        latents = ("batch", channels, f"height // {factor}", f"width // {factor}")
        self.outputs = (Port(name, edge, latents),)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `Wrapped.forward`."""
        encoded = self.inner.encode(inputs[0].to(self.core), return_dict=False)[0]
        latents = encoded if self.tiny else encoded.parameters
        return (latents.to(self.edge),)


class _CastOutput(nn.Module):
    """A module whose output takes another dtype: ONNX cannot concatenate Half and Float."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner
        self.dtype = dtype

    def forward(self, *inputs: Tensor) -> Tensor:
        """Runs the module and casts what it gives."""
        result: Tensor = self.inner(*inputs)
        return result.to(self.dtype)


def unet_ports(config: Any, edge: torch.dtype, tokens: int) -> tuple[Port, ...]:
    """What U-Nets and ControlNets have in common; `tokens` is the length of the text embeddings."""
    ports = (
        Port("sample", edge, ("batch", config.in_channels, "height", "width")),
        # Schedulers of the Euler kind evaluate between the integer timesteps.
        Port("timestep", torch.float32, ()),
        Port("encoder_hidden_states", edge, ("batch", tokens, config.cross_attention_dim)),
    )
    if config.addition_embed_type != "text_time":
        return ports
    # SDXL: the pooled text, and six sizes.
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    sizes = Port("text_embeds", edge, ("batch", pooled)), Port("time_ids", edge, ("batch", 6))
    return (*ports, *sizes)


def vae_factor(config: Any) -> int:
    """Image pixels per latent cell on each side: one halving per block after the first."""
    widths = getattr(config, "decoder_block_out_channels", None) or config.block_out_channels
    return int(2 ** (len(widths) - 1))


def unet_factor(config: Any) -> int:
    """Latent height and width must be multiples of this: one halving per block after the first."""
    return int(2 ** (len(config.block_out_channels) - 1))


def _set_vae_attention(vae: Any, attention: ExportAttention) -> None:
    # AutoencoderTiny has no attention.
    if hasattr(vae, "set_attn_processor"):
        vae.set_attn_processor(attention)
