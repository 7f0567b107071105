"""Tensor-only modules for pipelines with a ControlNet: it, and a U-Net that takes its residuals."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.dimensions import scaled
from .attention import ExportAttention
from .residuals import pixels_per_cell, residual_ports
from .wrap import Port, WrappedNet, WrappedUnet


class WrappedControlledUnet(WrappedUnet):
    """A U-Net whose last inputs are the residuals of a ControlNet."""

    def __init__(
        self, inner: Any, edge: torch.dtype, attention: ExportAttention, tokens: int
    ) -> None:
        """Wraps a U-Net; `tokens` is the length of the text embeddings."""
        super().__init__(inner, edge, attention, tokens)
        ports = residual_ports(inner.config, edge)
        self.inputs += ports
        self.added = len(ports)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `Wrapped.forward`."""
        *down, mid = (each.to(self.core) for each in inputs[-self.added :])
        return self.predict(inputs[: -self.added], tuple(down), mid)


class WrappedControlNet(WrappedNet):
    """A ControlNet: what the U-Net is fed, a picture and a scale to residuals for the U-Net.

    The pictures are `(batch, channels, height, width)` in [0, 1] and pixels; the scale is a number
    that every residual is multiplied by.
    """

    def __init__(
        self, inner: Any, edge: torch.dtype, attention: ExportAttention, tokens: int
    ) -> None:
        """Wraps a ControlNet; `tokens` is the length of the text embeddings."""
        super().__init__(inner, edge, attention, tokens)
        config = inner.config
        pixels = pixels_per_cell(config)
        picture = (scaled("height", pixels), scaled("width", pixels))
        self.inputs += (
            Port("controlnet_cond", edge, ("batch", config.conditioning_channels, *picture)),
            Port("conditioning_scale", torch.float32, ()),
        )
        self.outputs = residual_ports(config, edge)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `Wrapped.forward`."""
        sample, timestep, text, *extra = inputs
        *_, picture, scale = inputs
        added = self.conditions(extra[0], extra[1]) if self.conditioned else None
        down, mid = self.inner(
            sample.to(self.core),
            timestep,
            text.to(self.core),
            controlnet_cond=picture.to(self.core),
            conditioning_scale=scale.to(self.core),
            added_cond_kwargs=added,
            return_dict=False,
        )
        return tuple(each.to(self.edge) for each in (*down, mid))
