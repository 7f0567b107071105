"""Attention as a choice of module: how the exported graph computes softmax(q·kᵀ)·v.

Each class is a diffusers attention processor. The projections, the group norm of the VAE's
attention and the residual are the same in all of them; they differ in `attend`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import CheckpointError
from ..core.options import OnnxOptions


class ExportAttention(ABC):
    """The frame of a diffusers `Attention` layer; `attend` is the part that varies."""

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float) -> Tensor:
        """Scaled dot-product attention.

        Args:
            query: `(batch, queries, heads * width)`.
            key: `(batch, keys, heads * width)`.
            value: The shape of `key`.
            heads: Number of heads.
            scale: Factor of the scores.

        Returns:
            The shape and dtype of `query`.
        """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Runs a diffusers `Attention` layer on `(batch, tokens, width)` or `(b, c, h, w)`."""
        _require_plain(attn, attention_mask)
        residual, shape = hidden_states, hidden_states.shape
        if hidden_states.ndim == 4:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        if attn.upcast_attention:
            # Stable Diffusion 2.1 at 768 pixels overflows float16 here.
            query, key, value = query.float(), key.float(), value.float()
        attended = self.attend(query, key, value, attn.heads, float(attn.scale))
        result: Tensor = attn.to_out[0](attended.to(hidden_states.dtype))
        if len(shape) == 4:
            result = result.transpose(1, 2).reshape(shape)
        if attn.residual_connection:
            result = result + residual
        factor = float(attn.rescale_output_factor)
        return result if factor == 1.0 else result / factor


@dataclass(frozen=True)
class PortableAttention(ExportAttention):
    """MatMul and Softmax: runs everywhere, holds the whole matrix of scores."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float) -> Tensor:
        """See `ExportAttention.attend`."""
        query = _split(query, heads) * scale
        scores = query @ _split(key, heads).transpose(2, 3)
        return _merge(scores.softmax(dim=-1) @ _split(value, heads))


@dataclass(frozen=True)
class FusedAttention(ExportAttention):
    """One MultiHeadAttention node of ONNX Runtime, for which its CPU and CUDA have kernels."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float) -> Tensor:
        """See `ExportAttention.attend`."""
        return torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (query, key, value),
            {"num_heads": heads, "scale": scale},
            dtype=query.dtype,
            shape=query.shape,
            version=1,
        )


@dataclass(frozen=True)
class SlicedAttention(ExportAttention):
    """Queries in slices of at most `slice_size`, one after the other: bounds the peak memory.

    The node that is emitted here becomes an ONNX Scan in `passes/sliced_attention.py`, since the
    number of slices depends on the image size.
    """

    slice_size: int

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float) -> Tensor:
        """See `ExportAttention.attend`."""
        return torch.onnx.ops.symbolic(
            "kdexport::SlicedAttention",
            (query, key, value),
            {"num_heads": heads, "scale": scale, "slice_size": self.slice_size},
            dtype=query.dtype,
            shape=query.shape,
            version=1,
        )


# Widths of heads that TensorRT for RTX 1.7 has kernels for (tried from 4 to 320, sm_75 to sm_120).
_NATIVE_WIDTHS = range(9, 257)


@dataclass(frozen=True)
class NativeAttention(ExportAttention):
    """One standard Attention node where TensorRT has a kernel, else as `PortableAttention`.

    It has none for heads as wide as a VAE's, and none in float32: what diffusers upcasts inside a
    model of half precision is written in plain operators too.

    Attributes:
        single: Whether to use the node in float32 as well, for other engines.
    """

    single: bool

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float) -> Tensor:
        """See `ExportAttention.attend`."""
        fits = query.shape[-1] // heads in _NATIVE_WIDTHS
        if not fits or (query.dtype == torch.float32 and not self.single):
            return PortableAttention().attend(query, key, value, heads, scale)
        return torch.onnx.ops.symbolic(
            "Attention",
            (query, key, value),
            {"q_num_heads": heads, "kv_num_heads": heads, "scale": scale},
            dtype=query.dtype,
            shape=query.shape,
            version=23,
        )


def onnx_attention(options: OnnxOptions) -> ExportAttention:
    """The attention module that the options ask for."""
    modules: dict[str, ExportAttention] = {
        "fused": FusedAttention(),
        "portable": PortableAttention(),
        "sliced": SlicedAttention(options.slice_size),
        "native": NativeAttention(single=options.precision == "fp32"),
    }
    return modules[options.attention]


def _require_plain(attn: Any, attention_mask: Tensor | None) -> None:
    """Refuses what no U-Net or VAE of the supported families has."""
    unusual = [
        name
        for name in ("norm_q", "norm_k", "norm_cross", "spatial_norm", "added_kv_proj_dim")
        if getattr(attn, name, None)
    ]
    if attention_mask is not None:
        unusual.append("attention_mask")
    if unusual:
        raise CheckpointError(
            f"An attention layer uses {', '.join(unusual)}, which kdexport cannot export; choose "
            "another model, or report this one."
        )


def _split(tokens: Tensor, heads: int) -> Tensor:
    """`(batch, tokens, heads * width)` to `(batch, heads, tokens, width)`."""
    batch, length, width = tokens.shape
    return tokens.view(batch, length, heads, width // heads).transpose(1, 2)


def _merge(tokens: Tensor) -> Tensor:
    """`(batch, heads, tokens, width)` to `(batch, tokens, heads * width)`."""
    return tokens.transpose(1, 2).flatten(2)
