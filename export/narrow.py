"""Narrow twins: the same architecture with few channels, for tests that must take seconds.

A twin keeps what decides which code runs: block types, layers per block, the mid block or its
absence, attention options, linear projections, the text encoders' number, activation and classes,
the VAE's blocks. It loses width: U-Net channels by 20, heads as below, VAE channels by 16 (8
for the tiny autoencoder), embedding sizes by 32, with the relations between them intact (SDXL's
cross-attention width is the sum of its encoders' widths). It also loses depth where depth only
repeats: at most 2 transformer layers per block, 2 text layers for CLIP-L and 3 for the deeper
encoders. Its vocabulary has 1024 tokens, its latents 16 x 16, its images 128 x 128 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .zoo import NARROW_SUFFIX
from .zoo_types import ControlCard, Decoder, Piece, ZooEntry

VOCABULARY = 1024
LATENT_EDGE = 16
RESOLUTION = 128

_EMBEDDING_DIVISOR = 32
_MAX_DEPTH = 2
_GROUPS = 4  # 4 channels per group in the first level, so that their means survive the norm
_HEAD_DIM = 8


def narrow_twin(entry: ZooEntry) -> ZooEntry:
    """The narrow twin of a model, named `NAME-narrow`; published figures do not carry over."""
    return replace(
        entry,
        name=entry.name + NARROW_SUFFIX,
        unet=_narrowed(entry.unet, _unet(entry.unet.config)),
        text_encoders=tuple(_narrowed(each, _text(each.config)) for each in entry.text_encoders),
        vae=_narrowed(entry.vae, _vae(entry.vae.config)),
        controlnet=_narrow_control(entry.controlnet),
        resolution=RESOLUTION,
        hub=(),
        published={},
    )


def narrow_decoder(decoder: Decoder) -> Decoder:
    """The narrow twin of a decoder; it fits the twins of the models that the decoder fits."""
    vae = _narrowed(decoder.vae, _vae(decoder.vae.config))
    return replace(decoder, name=decoder.name + NARROW_SUFFIX, vae=vae, hub=())


def _narrow_control(card: ControlCard | None) -> ControlCard | None:
    if card is None or card.net is None:
        return card
    changes = _unet(card.net.config)
    changes.pop("sample_size")  # which a ControlNet does not have
    return replace(card, net=_narrowed(card.net, changes))


def _narrowed(piece: Piece, changes: Mapping[str, Any]) -> Piece:
    return replace(piece, config={**piece.config, **changes}, expected={})


def _unet(config: Mapping[str, Any]) -> dict[str, Any]:
    channels = [each // 20 for each in config["block_out_channels"]]
    changes: dict[str, Any] = {
        "sample_size": LATENT_EDGE,
        "block_out_channels": channels,
        "norm_num_groups": _GROUPS,
        "attention_head_dim": _heads(config["attention_head_dim"], channels),
    }
    for key in (
        "cross_attention_dim",
        "addition_time_embed_dim",
        "projection_class_embeddings_input_dim",
        "time_cond_proj_dim",
    ):
        if key in config:
            changes[key] = config[key] // _EMBEDDING_DIVISOR
    for key in ("transformer_layers_per_block", "reverse_transformer_layers_per_block"):
        if key in config:
            changes[key] = _shallow(config[key])
    return changes


def _heads(heads: int | list[int], channels: list[int]) -> int | list[int]:
    """Number of heads (which is what `attention_head_dim` means in these models).

    SD 1.x has the same number of heads everywhere, so that their width differs by level; SD 2.x
    and SDXL have heads of one width.
    """
    if isinstance(heads, int):
        return heads // 4
    return [each // _HEAD_DIM for each in channels]


def _shallow(depth: Any) -> Any:
    return [_shallow(each) for each in depth] if isinstance(depth, list) else min(depth, _MAX_DEPTH)


def _text(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": config["hidden_size"] // _EMBEDDING_DIVISOR,
        "intermediate_size": config["intermediate_size"] // _EMBEDDING_DIVISOR,
        "projection_dim": config["projection_dim"] // _EMBEDDING_DIVISOR,
        "num_attention_heads": config["num_attention_heads"] // 4,
        "num_hidden_layers": 2 if config["num_hidden_layers"] <= 12 else 3,
    }


def _vae(config: Mapping[str, Any]) -> dict[str, Any]:
    if "decoder_block_out_channels" in config:
        return {
            side: [each // 8 for each in config[side]]
            for side in ("encoder_block_out_channels", "decoder_block_out_channels")
        }
    return {
        "block_out_channels": [each // 16 for each in config["block_out_channels"]],
        "norm_num_groups": _GROUPS,
        "sample_size": RESOLUTION,
    }
