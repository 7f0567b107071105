"""diffusers' upsampling without its branches, which a tracer would turn into limits on sizes."""

from __future__ import annotations

import functools

import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn


def drop_branches(module: nn.Module) -> None:
    """Replaces the forward of every `Upsample2D` inside a module, in place.

    diffusers makes large tensors contiguous first, around defects of torch's kernels
    (huggingface/diffusers#984, pytorch/pytorch#141831): from 64 rows on, or beyond 2^31 elements.
    The numbers are the same with and without.
    """
    for each in module.modules():
        plain = isinstance(each, Upsample2D) and each.interpolate
        if plain and each.norm is None and not each.use_conv_transpose:
            each.forward = functools.partial(_upsample, each)


def _upsample(
    module: Upsample2D, hidden_states: Tensor, output_size: tuple[int, int] | None = None
) -> Tensor:
    factor = 2.0 if output_size is None else None
    larger = torch.nn.functional.interpolate(
        hidden_states, size=output_size, scale_factor=factor, mode="nearest"
    )
    if not module.use_conv:
        return larger
    convolved: Tensor = (module.conv if module.name == "conv" else module.Conv2d_0)(larger)
    return convolved
