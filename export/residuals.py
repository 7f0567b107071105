"""The residuals that a ControlNet adds inside a U-Net: one per skip connection and one at the end.

The U-Net adds the last one, `mid_block_residual`, after its mid block, or, where it has none,
to what comes out of the last down block; that is what diffusers' `UNet2DConditionModel.forward`
does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..core.dimensions import scaled
from ..core.errors import CheckpointError
from .wrap import Port, unet_factor

MID = "mid_block_residual"


@dataclass(frozen=True)
class Residual:
    """One residual: its name, its channels, and how many latent cells one of its cells spans."""

    name: str
    channels: int
    factor: int


def residuals(config: Any) -> tuple[Residual, ...]:
    """The residuals that a ControlNet gives or a U-Net takes, the one at the end last.

    Args:
        config: The full config of a `ControlNetModel` or a `UNet2DConditionModel`.
    """
    channels: list[int] = list(config.block_out_channels)
    layers = config.layers_per_block
    per_block = [layers] * len(channels) if isinstance(layers, int) else list(layers)
    # The first convolution, then each layer, and a halving after every block but the last.
    shapes = [(channels[0], 1)]
    for index, count in enumerate(per_block):
        shapes += [(channels[index], 2**index)] * count
        if index + 1 < len(channels):
            shapes.append((channels[index], 2 ** (index + 1)))
    down = tuple(
        Residual(f"down_block_residual_{index}", *shape) for index, shape in enumerate(shapes)
    )
    return (*down, Residual(MID, channels[-1], unet_factor(config)))


def residual_ports(config: Any, dtype: torch.dtype) -> tuple[Port, ...]:
    """The residuals as ports, `(batch, channels, height, width)` in latent cells or fewer."""
    return tuple(
        Port(
            each.name,
            dtype,
            (
                "batch",
                each.channels,
                scaled("height", divisor=each.factor),
                scaled("width", divisor=each.factor),
            ),
        )
        for each in residuals(config)
    )


def pixels_per_cell(controlnet: Any) -> int:
    """How many pixels of a control picture a latent cell spans, on each side.

    `ControlNetConditioningEmbedding` halves the picture between its widths.

    Args:
        controlnet: The full config of a `ControlNetModel`.
    """
    return int(2 ** (len(controlnet.conditioning_embedding_out_channels) - 1))


def require_matching(configs: Mapping[str, Any], latent_factor: int) -> None:
    """Holds a ControlNet against the U-Net that it is to steer.

    diffusers would pair the residuals off silently, as many as both sides have.

    Args:
        configs: The full configs of `unet` and `controlnet`.
        latent_factor: Image pixels per latent cell.

    Raises:
        CheckpointError: They do not fit; the message says where.
    """
    unet, controlnet = configs["unet"], configs["controlnet"]
    problems = [
        f"{name} is {ours!r} in the ControlNet, but {theirs!r} in the U-Net"
        for name, ours, theirs in _compared(unet, controlnet)
        if ours != theirs
    ]
    pixels = pixels_per_cell(controlnet)
    if pixels != latent_factor:
        problems.append(
            f"the ControlNet reads {pixels} pixels of the picture per latent cell, but the VAE "
            f"draws {latent_factor}"
        )
    if problems:
        raise CheckpointError(
            f"The ControlNet does not fit the U-Net: {'; '.join(problems)}. Use the ControlNet "
            "that was trained for this model."
        )


def _compared(unet: Any, controlnet: Any) -> list[tuple[str, Any, Any]]:
    """What must be the same in both, as (name, in the ControlNet, in the U-Net)."""
    names = ["in_channels", "cross_attention_dim"]
    if controlnet.addition_embed_type is not None:
        names += [
            "addition_embed_type",
            "addition_time_embed_dim",
            "projection_class_embeddings_input_dim",
        ]
    values = [(name, getattr(controlnet, name), getattr(unet, name)) for name in names]
    return [("what is added", _shapes(controlnet), _shapes(unet)), *values]


def _shapes(config: Any) -> str:
    """Channels of each residual, and the divisor of its height and width."""
    return ", ".join(f"{each.channels}x(1/{each.factor})" for each in residuals(config))
