"""Core ML models of pipelines with a ControlNet: it, and a U-Net that takes its residuals."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...core.dimensions import scaled
from ..residuals import pixels_per_cell, residual_ports
from .epsilon import ToEpsilon
from .ports import ApplePort
from .wrap_unet import EDGE, AppleNet, AppleUnet, conditions


class AppleControlledUnet(AppleUnet):
    """A U-Net whose last inputs are the residuals of a ControlNet."""

    def __init__(
        self,
        inner: Any,
        attention: str = "original",
        slice_size: int | None = None,
        rows: int = 2,
        tokens: int = 77,
        epsilon: ToEpsilon | None = None,
    ) -> None:
        """Wraps a U-Net, which is changed in place; see `AppleUnet`."""
        super().__init__(inner, attention, slice_size, rows, tokens, epsilon)
        ports = control_ports(inner.config, rows, EDGE)
        self.inputs += ports
        self.added = len(ports)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `AppleModule.forward`."""
        *down, mid = inputs[-self.added :]
        return self.predict(inputs[: -self.added], tuple(down), mid)


class AppleControlNet(AppleNet):
    """A ControlNet: what the U-Net is fed and a picture to residuals for the U-Net."""

    summary = "Finds in a picture what is to be added inside the U-Net, so that it follows it."

    def __init__(
        self,
        inner: Any,
        attention: str = "original",
        slice_size: int | None = None,
        rows: int = 2,
        tokens: int = 77,
        scale: float = 1.0,
    ) -> None:
        """Wraps a ControlNet, which is changed in place.

        Args:
            inner: The `ControlNetModel`.
            attention: How it computes attention, see `coreml_attention`.
            slice_size: Queries per slice, see `coreml_attention`.
            rows: Rows in a call, as of the U-Net.
            tokens: Length of the text embeddings.
            scale: What every residual is multiplied by; Apple's package has no input for it.

        Raises:
            OptionError: There is no such attention, or there are other than 1 or 2 rows.
            CheckpointError: The model has a layer that this attention cannot handle.
        """
        super().__init__(inner, attention, slice_size, rows, tokens)
        config, pixels = inner.config, pixels_per_cell(inner.config)
        self.scale = scale
        picture = (
            *(rows, config.conditioning_channels),
            *(scaled("height", pixels), scaled("width", pixels)),
        )
        told = "The picture to follow: values between 0 and 1, the same in each row."
        self.inputs += (ApplePort("controlnet_cond", EDGE, picture, told, "controlnet_cond"),)
        self.outputs = control_ports(config, rows, torch.float32)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `AppleModule.forward`."""
        sample, timestep, text, *extra, picture = inputs
        down, mid = self.inner(
            sample,
            timestep,
            self.context(text),
            controlnet_cond=picture,
            conditioning_scale=self.scale,
            added_cond_kwargs=conditions(extra[0], extra[1]) if self.conditioned else None,
            return_dict=False,
        )
        return (*down, mid)


def control_ports(config: Any, rows: int, dtype: torch.dtype) -> tuple[ApplePort, ...]:
    """The residuals as ports, numbered as Apple's package does, the one of the middle last.

    Args:
        config: The full config of the U-Net that takes or the ControlNet that gives them.
        rows: Rows in a call.
        dtype: Their type.
    """
    told = "What the ControlNet adds to a skip connection of the U-Net, or, the last, to its end."
    return tuple(
        ApplePort(f"additional_residual_{index}", dtype, (rows, *port.shape[1:]), told, port.name)
        for index, port in enumerate(residual_ports(config, dtype))
    )
