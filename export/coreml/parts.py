"""Which packages a pipeline becomes, and around which module each of them is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ...core.checkpoint import Checkpoint
from ...core.coreml_options import CoremlOptions
from ...core.manifest import Component, TensorSpec
from ..parts import has_hazardous_vae, text_length
from ..sampler import load_scheduler
from ..skeleton import build_skeleton
from .epsilon import ToEpsilon, to_epsilon
from .ports import AppleModule, ApplePort
from .wrap_control import AppleControlledUnet, AppleControlNet
from .wrap_text import AppleTextEncoder
from .wrap_unet import AppleUnet
from .wrap_vae import LIBRARY_FACTORS, AppleDecoder, AppleEncoder

# What Apple's library loads, after compilation.
_PACKAGES = {
    "text_encoder": "TextEncoder",
    "text_encoder_2": "TextEncoder2",
    "controlnet": "controlnet/ControlNet",
    "unet": "Unet",
    "vae_decoder": "VAEDecoder",
    "vae_encoder": "VAEEncoder",
}
_CONTROLLED = "ControlledUnet"
_DTYPES = {torch.float16: "float16", torch.float32: "float32"}


@dataclass(frozen=True)
class CoremlPart:
    """One component to convert.

    Attributes:
        role: Its role in the bundle.
        component: The component of the pipeline that it is made of.
        files: Its packages, relative to the bundle: one, or the chunks in their order.
        wrap: Wraps the module of the component, which it changes.
        residual_scale: What the package multiplies the residuals of a ControlNet by.
    """

    role: str
    component: str
    files: tuple[str, ...]
    wrap: Callable[[nn.Module], AppleModule]
    residual_scale: float = 1.0

    def describe(
        self, checkpoint: Checkpoint, precision: str, size: Mapping[str, int] | None
    ) -> Component:
        """The component as the manifest has it before it is converted.

        Args:
            checkpoint: The pipeline.
            precision: Of the package.
            size: The only `height` and `width` in latent cells, or None where there are several.
        """
        skeleton = build_skeleton(checkpoint.component(self.component), torch.float32)
        module = self.wrap(skeleton)
        ports = (*module.inputs, *module.outputs)
        return Component(
            role=self.role,
            file=self.files[0],
            precision=precision,
            inputs=tuple(_spec(port, size) for port in module.inputs),
            outputs=tuple(_spec(port, size) for port in module.outputs),
            parameters=sum(each.numel() for each in skeleton.parameters()),
            chunks=self.files if len(self.files) > 1 else (),
            ports={port.name: port.alias for port in ports},
            residual_scale=self.residual_scale,
        )


def coreml_parts(
    checkpoint: Checkpoint, options: CoremlOptions, rows: int
) -> tuple[CoremlPart, ...]:
    """The components of a pipeline in the order in which a run uses them.

    Args:
        checkpoint: The pipeline.
        options: How to export it.
        rows: Rows of the U-Net's batch.
    """
    parts = [_text_part(checkpoint, name) for name in checkpoint.text_encoders]
    if checkpoint.control:
        parts.append(_control_part(checkpoint, options, rows))
    parts.append(_unet_part(checkpoint, options, rows))
    for role in ("vae_decoder", "vae_encoder")[: 2 if options.with_encoder else 1]:
        parts.append(_vae_part(role, checkpoint, options))
    return tuple(parts)


def baked_prediction(checkpoint: Checkpoint, options: CoremlOptions) -> ToEpsilon | None:
    """What turns the U-Net's prediction into noise, where that is asked for and needed.

    Raises:
        OptionError: The schedule ends in pure noise.
    """
    return to_epsilon(load_scheduler(checkpoint.scheduler)) if options.epsilon else None


def _text_part(checkpoint: Checkpoint, name: str) -> CoremlPart:
    xl, skip = checkpoint.family == "sdxl", checkpoint.clip_skip
    return CoremlPart(
        name, name, _files(_PACKAGES[name]), lambda module: AppleTextEncoder(module, xl, skip)
    )


def _control_part(checkpoint: Checkpoint, options: CoremlOptions, rows: int) -> CoremlPart:
    tokens = text_length(checkpoint)
    assert checkpoint.control is not None
    # Apple's library has no scale, so its pictures get the default one; 0 could not be undone.
    scale = checkpoint.control.scale or 1.0

    def wrap(module: nn.Module) -> AppleModule:
        sliced = options.resolved_slice
        return AppleControlNet(module, options.attention, sliced, rows, tokens, scale)

    files = _files(_PACKAGES["controlnet"])
    return CoremlPart("controlnet", "controlnet", files, wrap, residual_scale=scale)


def _unet_part(checkpoint: Checkpoint, options: CoremlOptions, rows: int) -> CoremlPart:
    tokens, epsilon = text_length(checkpoint), baked_prediction(checkpoint, options)
    kind = AppleControlledUnet if checkpoint.control else AppleUnet
    package = _CONTROLLED if checkpoint.control else _PACKAGES["unet"]
    names = [f"{package}Chunk{number}" for number in (1, 2)] if options.chunk else [package]

    def wrap(module: nn.Module) -> AppleModule:
        sliced = options.resolved_slice
        return kind(module, options.attention, sliced, rows, tokens, epsilon)

    return CoremlPart("unet", "unet", _files(*names), wrap)


def _vae_part(role: str, checkpoint: Checkpoint, options: CoremlOptions) -> CoremlPart:
    kind = AppleDecoder if role == "vae_decoder" else AppleEncoder
    factor = LIBRARY_FACTORS[checkpoint.family]
    # Apple's library feeds what the package takes, so only precision decides.
    wide = options.precision == "fp32" or has_hazardous_vae(checkpoint)
    edge = torch.float32 if wide else torch.float16

    def wrap(module: nn.Module) -> AppleModule:
        return kind(module, options.attention, options.resolved_slice, factor, edge)

    return CoremlPart(role, "vae", _files(_PACKAGES[role]), wrap)


def _files(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}.mlpackage" for name in names)


def _spec(port: ApplePort, size: Mapping[str, int] | None) -> TensorSpec:
    shape = port.shape if size is None else port.sizes(size)
    return TensorSpec(port.name, _DTYPES[port.dtype], tuple(shape))
