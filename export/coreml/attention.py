"""Attention in a Core ML model, as a choice of module.

`original`, sliced or not, and `sdpa` are diffusers attention processors in the layout of diffusers,
`(batch, tokens, channels)`; `split-einsum` and `split-einsum-v2` turn the whole transformer to
channels first (`channels_first.py`).

A config's `upcast_attention` changes nothing here: a Core ML program is traced in float32, and what
has to stay in float32 afterwards is found by measuring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...core.coreml_options import COREML_ATTENTIONS, DEFAULT_SLICE
from ...core.errors import OptionError
from ...core.options import require_choice
from ..attention import ExportAttention
from .channels_first import use_channels_first
from .split_einsum import SplitEinsum

ATTENTIONS = COREML_ATTENTIONS


@dataclass(frozen=True)
class OriginalAttention(ExportAttention):
    """All heads in one batched matmul, for the GPU; holds the whole matrix of scores."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float) -> Tensor:
        """See `ExportAttention.attend`."""
        query, key, value = (_split(each, heads) for each in (query * scale, key, value))
        return _merge((query @ key.transpose(2, 3)).softmax(dim=-1) @ value)


@dataclass(frozen=True)
class SlicedAttention(ExportAttention):
    """`OriginalAttention` on at most `slice_size` queries at a time: bounds the peak memory."""

    slice_size: int

    def __post_init__(self) -> None:
        require_slice(self.slice_size)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float) -> Tensor:
        """See `ExportAttention.attend`."""
        query, key, value = (_split(each, heads) for each in (query * scale, key, value))
        key = key.transpose(2, 3)
        # coremltools refuses to split a tensor in one part.
        whole = query.shape[2] <= self.slice_size
        parts = [query] if whole else torch.split(query, self.slice_size, dim=2)
        return _merge(torch.cat([(part @ key).softmax(dim=-1) @ value for part in parts], dim=2))


@dataclass(frozen=True)
class SdpaAttention(ExportAttention):
    """The fused operation of iOS 18, which earlier targets do not have."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float) -> Tensor:
        """See `ExportAttention.attend`."""
        width = query.shape[-1] // heads
        query, key, value = (_split(each, heads) for each in (query, key, value))
        # Not by the argument `scale`, with which coremltools takes the operation apart.
        factor = scale * width**0.5
        if abs(factor - 1) > 1e-6:
            query = query * factor
        return _merge(functional.scaled_dot_product_attention(query, key, value))


def coreml_attention(inner: Any, attention: str, slice_size: int | None) -> None:
    """Makes a diffusers module compute attention in the way that is asked for, in place.

    Its parameters keep their names, shapes and memory. With the two `split-einsum` forms, the text
    embeddings of a U-Net or ControlNet are `(batch, channels, 1, tokens)` from then on.

    Args:
        inner: A U-Net, ControlNet or VAE; a VAE without attention stays as it is.
        attention: One of `ATTENTIONS`.
        slice_size: Queries per slice for `original` and `split-einsum-v2`; None for all at once and
            for 512.

    Raises:
        OptionError: There is no such attention, or it has no slices of that size.
        CheckpointError: The module has a layer that cannot be turned to channels first.
    """
    require_attention(attention, slice_size)
    if is_channels_first(attention):
        sliced = attention == "split-einsum-v2"
        use_channels_first(inner, SplitEinsum((slice_size or DEFAULT_SLICE) if sliced else None))
    # AutoencoderTiny has no attention.
    elif hasattr(inner, "set_attn_processor"):
        inner.set_attn_processor(_processor(attention, slice_size))


def is_channels_first(attention: str) -> bool:
    """Whether the transformers work on `(batch, channels, 1, tokens)`."""
    return attention.startswith("split-einsum")


def require_attention(attention: str, slice_size: int | None) -> None:
    """Raises `OptionError` where there is no such attention, or no slices of that size in it."""
    require_choice(attention, ATTENTIONS, "attention for Core ML")
    if slice_size is None:
        return
    if attention in ("split-einsum", "sdpa"):
        raise OptionError(
            f"The attention '{attention}' takes all queries at once; leave out the slice size, or "
            "choose original or split-einsum-v2."
        )
    require_slice(slice_size)


def require_slice(slice_size: int) -> None:
    """Raises `OptionError` where a slice holds no query."""
    if slice_size < 1:
        raise OptionError(f"The slice size must be at least 1, not {slice_size}.")


def _processor(attention: str, slice_size: int | None) -> ExportAttention:
    if attention == "sdpa":
        return SdpaAttention()
    return OriginalAttention() if slice_size is None else SlicedAttention(slice_size)


def _split(tokens: Tensor, heads: int) -> Tensor:
    """`(batch, tokens, heads * width)` to `(batch, heads, tokens, width)`."""
    batch, length, width = tokens.shape
    return tokens.view(batch, length, heads, width // heads).transpose(1, 2)


def _merge(tokens: Tensor) -> Tensor:
    """`(batch, heads, tokens, width)` to `(batch, tokens, heads * width)`."""
    return tokens.transpose(1, 2).flatten(2)
