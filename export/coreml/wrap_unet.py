"""The U-Net as a Core ML model: latents, timestep and text embeddings to the predicted noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...core.errors import OptionError, choices
from ..wrap import unet_ports
from .attention import coreml_attention, is_channels_first
from .epsilon import ToEpsilon
from .ports import AppleModule, ApplePort

# Apple's type of everything that a network of the denoising loop takes.
EDGE = torch.float16

# `--guidance-batch`: both rows of guidance at once, or one.
ROWS = (1, 2)


class AppleNet(AppleModule):
    """What U-Nets and ControlNets have in common.

    Apple's package feeds a fixed number of rows: the unconditional and the conditional one, in this
    order, or a single one. The text embeddings are channels first, whatever the attention.
    """

    def __init__(
        self, inner: Any, attention: str, slice_size: int | None, rows: int, tokens: int
    ) -> None:
        """Wraps a network; see `AppleUnet`."""
        super().__init__(inner)
        if rows not in ROWS:
            raise OptionError(
                f"Apple's package feeds the U-Net {choices(map(str, ROWS))} rows, not {rows}."
            )
        coreml_attention(inner, attention, slice_size)
        self.channels_first = is_channels_first(attention)
        self.conditioned = inner.config.addition_embed_type == "text_time"
        self.inputs = net_ports(inner.config, rows, tokens)

    def context(self, text: Tensor) -> Tensor:
        """The text embeddings `(rows, channels, 1, tokens)` as the transformers take them."""
        return text if self.channels_first else text.squeeze(2).transpose(1, 2)


class AppleUnet(AppleNet):
    """A U-Net."""

    summary = "Predicts the noise in latents at a timestep, given the embedding of a prompt."

    def __init__(
        self,
        inner: Any,
        attention: str = "original",
        slice_size: int | None = None,
        rows: int = 2,
        tokens: int = 77,
        epsilon: ToEpsilon | None = None,
    ) -> None:
        """Wraps a U-Net, which is changed in place.

        Args:
            inner: The `UNet2DConditionModel`.
            attention: How it computes attention, see `coreml_attention`.
            slice_size: Queries per slice, see `coreml_attention`.
            rows: 2 for guidance with both rows at once, 1 for none or one after the other.
            tokens: Length of the text embeddings.
            epsilon: Turns what the model predicts into noise; None where it predicts noise, or
                where the caller's sampler knows what it predicts.

        Raises:
            OptionError: There is no such attention, or there are other than 1 or 2 rows.
            CheckpointError: The model has a layer that this attention cannot handle.
        """
        super().__init__(inner, attention, slice_size, rows, tokens)
        config = inner.config
        self.epsilon = epsilon
        # Latent consistency models take the guidance scale as an embedding.
        self.guided = config.time_cond_proj_dim is not None
        if self.guided:
            self.inputs += (
                ApplePort(
                    "timestep_cond",
                    EDGE,
                    (rows, config.time_cond_proj_dim),
                    "Sinusoidal embedding of the guidance scale.",
                    "timestep_cond",
                ),
            )
        shape = (rows, config.out_channels, "height", "width")
        noise = "The noise that the model finds in the latents, for each row."
        self.outputs = (ApplePort("noise_pred", torch.float32, shape, noise, "out_sample"),)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `AppleModule.forward`."""
        return self.predict(inputs)

    def predict(
        self,
        inputs: tuple[Tensor, ...],
        down: tuple[Tensor, ...] | None = None,
        mid: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Runs the U-Net, with the residuals of a ControlNet where there are any."""
        sample, timestep, text, *extra = inputs
        added = conditions(extra.pop(0), extra.pop(0)) if self.conditioned else None
        predicted = self.inner(
            sample,
            timestep,
            self.context(text),
            timestep_cond=extra.pop(0) if self.guided else None,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0]
        if self.epsilon is not None:
            predicted = self.epsilon(predicted, sample, timestep)
        return (predicted,)


def conditions(time_ids: Tensor, pooled: Tensor) -> dict[str, Tensor]:
    """What SDXL is conditioned on beside the text, as diffusers takes it."""
    return {"text_embeds": pooled, "time_ids": time_ids}


def net_ports(config: Any, rows: int, tokens: int) -> tuple[ApplePort, ...]:
    """The inputs that U-Nets and ControlNets share.

    Args:
        config: The full config of the network.
        rows: Rows in a call.
        tokens: Length of the text embeddings.
    """
    widths = {port.name: port.shape[-1] for port in unet_ports(config, EDGE, tokens) if port.shape}
    latents = (rows, config.in_channels, "height", "width")
    context = (rows, widths["encoder_hidden_states"], 1, tokens)
    ports = [
        ("sample", latents, "Noisy latents, as the scheduler scales them; the same in each row."),
        ("timestep", (rows,), "Timestep of the latents, between 0 and 999, for each row."),
        ("encoder_hidden_states", context, "Text embeddings, of the negative prompt first."),
    ]
    if "time_ids" in widths:
        sizes = "Original size, crop and target size in pixels, height before width."
        pooled = (rows, widths["text_embeds"])
        ports += [
            ("time_ids", (rows, widths["time_ids"]), sizes),
            ("text_embeds", pooled, "Pooled text embeddings, of the negative prompt first."),
        ]
    return tuple(ApplePort(name, EDGE, shape, told, name) for name, shape, told in ports)
