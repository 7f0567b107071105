"""Which models a pipeline becomes, and in which precision each of them is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..core.checkpoint import Checkpoint
from ..core.options import OnnxOptions
from .attention import ExportAttention, onnx_attention
from .wrap import Wrapped, WrappedDecoder, WrappedEncoder, WrappedUnet
from .wrap_control import WrappedControlledUnet, WrappedControlNet
from .wrap_text import WrappedTextEncoder


@dataclass(frozen=True)
class Part:
    """One model to write.

    Attributes:
        role: Its role in the bundle.
        component: The component of the pipeline that it is made of.
        dtype: Type of its weights.
        precision: The precision that the manifest records and whose gates apply.
        islands: What stays in float32 inside a model of half precision, in words.
        static: Fixed dimensions: `height` and `width` in latent cells, of the encoder in pixels.
        wrap: Wraps the module of the component.
    """

    role: str
    component: str
    dtype: torch.dtype
    precision: str
    islands: tuple[str, ...]
    static: Mapping[str, int]
    wrap: Callable[[nn.Module], Wrapped]


def pipeline_parts(
    checkpoint: Checkpoint, options: OnnxOptions, latent_factor: int
) -> tuple[Part, ...]:
    """The models of a pipeline in the order in which a run uses them.

    Args:
        checkpoint: The pipeline.
        options: How to export it.
        latent_factor: Image pixels per latent cell.
    """
    attention = onnx_attention(options)
    rows = {"batch": options.batch} if options.batch else {}
    # Everything but the U-Net handles one prompt or image at a time in a bundle of fixed shapes.
    single = {"batch": 1} if options.batch else {}
    pixels = {}
    if options.height and options.width:
        pixels = {"height": options.height, "width": options.width}
    size = {name: value // latent_factor for name, value in pixels.items()}
    parts = [_text_part(checkpoint, options, name, single) for name in checkpoint.text_encoders]
    nets: dict[str, type[WrappedUnet | WrappedControlNet]] = {"unet": WrappedUnet}
    if checkpoint.control:
        nets = {"controlnet": WrappedControlNet, "unet": WrappedControlledUnet}
    for name, kind in nets.items():
        parts.append(_unet_part(name, kind, checkpoint, options, attention, {**rows, **size}))
    parts.append(_vae_part("vae_decoder", checkpoint, options, attention, {**single, **size}))
    if options.with_encoder:
        parts.append(_vae_part("vae_encoder", checkpoint, options, attention, {**single, **pixels}))
    return tuple(parts)


_CORE_DTYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "mixed": torch.float16,
    "bf16": torch.bfloat16,
}


def edge_dtype(precision: str) -> torch.dtype:
    """Type of the inputs and outputs: `mixed` and `bf16` keep them in float32."""
    return torch.float16 if precision == "fp16" else torch.float32


def _beside_unet(precision: str) -> str:
    """Precision of text encoders and VAE, whose fine detail needs the longer significand."""
    return "mixed" if precision == "bf16" else precision


def _text_part(
    checkpoint: Checkpoint, options: OnnxOptions, name: str, static: Mapping[str, int]
) -> Part:
    edge, all_states = edge_dtype(options.precision), checkpoint.family == "sdxl"
    skip = None if all_states else checkpoint.clip_skip

    def wrap(module: nn.Module) -> Wrapped:
        return WrappedTextEncoder(module, edge, all_states, skip)

    precision = _beside_unet(options.precision)
    return Part(name, name, _CORE_DTYPES[precision], precision, (), static, wrap)


def _unet_part(
    name: str,
    kind: Callable[[nn.Module, torch.dtype, ExportAttention, int], Wrapped],
    checkpoint: Checkpoint,
    options: OnnxOptions,
    attention: ExportAttention,
    static: Mapping[str, int],
) -> Part:
    """The U-Net or the ControlNet, wrapped in `kind`."""
    edge, tokens = edge_dtype(options.precision), text_length(checkpoint)
    islands = _islands(checkpoint.component(name).config, options.precision)

    def wrap(module: nn.Module) -> Wrapped:
        return kind(module, edge, attention, tokens)

    core = _CORE_DTYPES[options.precision]
    return Part(name, name, core, options.precision, islands, static, wrap)


def text_length(checkpoint: Checkpoint) -> int:
    """Length of the text embeddings."""
    return int(checkpoint.component("text_encoder").config.get("max_position_embeddings", 77))


def _islands(config: Mapping[str, Any], precision: str) -> tuple[str, ...]:
    """What a U-Net or ControlNet keeps in float32."""
    if precision == "fp32":
        return ()
    # diffusers computes every sinusoid in float32, whatever the weights are.
    islands = ["sinusoidal time embedding"]
    if config.get("addition_embed_type") == "text_time":
        islands.append("sinusoidal embedding of the time ids")
    if config.get("upcast_attention"):
        islands.append("attention (upcast_attention)")
    return tuple(islands)


def has_hazardous_vae(checkpoint: Checkpoint) -> bool:
    """Whether the autoencoder is SDXL's, which overflows float16; the fp16-fix one does not."""
    vae = checkpoint.component("vae")
    warned = vae.class_name == "AutoencoderKL" and vae.config.get("force_upcast", True)
    return bool(warned) and checkpoint.family == "sdxl"


def _vae_part(
    role: str,
    checkpoint: Checkpoint,
    options: OnnxOptions,
    attention: ExportAttention,
    static: Mapping[str, int],
) -> Part:
    edge, precision = edge_dtype(options.precision), _beside_unet(options.precision)
    if precision == "mixed" and has_hazardous_vae(checkpoint):
        precision = "fp32"

    def wrap(module: nn.Module) -> Wrapped:
        if role == "vae_encoder":
            return WrappedEncoder(module, edge, attention)
        return WrappedDecoder(module, edge, attention)

    return Part(role, "vae", _CORE_DTYPES[precision], precision, (), static, wrap)
