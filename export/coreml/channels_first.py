"""The transformers of a U-Net and the attention of a VAE, channels first.

The Neural Engine works on `(batch, channels, 1, tokens)` without rearranging memory: linear layers
become 1x1 convolutions, layer norms run over the second axis, attention runs head by head. The
layers are those of diffusers, each given a class that computes the same on the other layout, so
that parameters keep their names, shapes and memory.
"""

from __future__ import annotations

from typing import Any

from diffusers import Transformer2DModel
from diffusers.models.activations import GEGLU, GELU, ApproximateGELU
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional

from ...core.errors import CheckpointError
from .split_einsum import SplitEinsum


class PointwiseLinear(nn.Linear):
    """`nn.Linear` as a 1x1 convolution on `(batch, channels, height, width)`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps the channels."""
        return functional.conv2d(input, self.weight[:, :, None, None], self.bias)


class ChannelNorm(nn.LayerNorm):
    """`nn.LayerNorm` over the channels of `(batch, channels, 1, tokens)`."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalizes each token; same shape."""
        centred = input - input.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        normal = centred * (variance + self.eps).rsqrt()
        if self.weight is not None:
            normal = normal * self.weight[:, None, None]
        return normal if self.bias is None else normal + self.bias[:, None, None]


class ChannelsFirstGeglu(GEGLU):  # type: ignore[misc]
    """`GEGLU` whose two halves lie along the channels of `(batch, channels, 1, tokens)`."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Gates one half of the projection by the other."""
        value, gate = self.proj(hidden_states).chunk(2, dim=1)
        gated: Tensor = value * functional.gelu(gate)
        return gated


class ChannelsFirstAttention(Attention):  # type: ignore[misc]
    """A diffusers `Attention` layer on `(batch, channels, 1, tokens)` or on images."""

    split: SplitEinsum

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attends to the context, or to itself; same shape. `temb` is not used, as in diffusers."""
        shape, residual = hidden_states.shape, hidden_states
        if self.group_norm is not None:
            hidden_states = self.group_norm(hidden_states)
        hidden_states = _to_row(hidden_states)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = self.to_q(hidden_states), self.to_k(context), self.to_v(context)
        attended = self.split.attend(query, key, value, self.heads, float(self.scale))
        result: Tensor = self.to_out[0](attended).reshape(shape)
        if self.residual_connection:
            result = result + residual
        factor = float(self.rescale_output_factor)
        return result if factor == 1.0 else result / factor


class ChannelsFirstBlock(BasicTransformerBlock):  # type: ignore[misc]
    """A transformer block on `(batch, channels, 1, tokens)`."""

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """Attention, cross-attention and feed-forward, each added to what came in."""
        context = encoder_hidden_states if self.only_cross_attention else None
        hidden_states = self.attn1(self.norm1(hidden_states), context) + hidden_states
        if self.attn2 is not None:
            attended = self.attn2(self.norm2(hidden_states), encoder_hidden_states)
            hidden_states = attended + hidden_states
        result: Tensor = self.ff(self.norm3(hidden_states)) + hidden_states
        return result


class ChannelsFirstTransformer(Transformer2DModel):  # type: ignore[misc]
    """A transformer on images that never leaves the channels-first layout."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """Runs the blocks; everything after the context is what diffusers passes, and empty."""
        shape, residual = hidden_states.shape, hidden_states
        hidden_states = self.proj_in(_to_row(self.norm(hidden_states)))
        for block in self.transformer_blocks:
            hidden_states = block(hidden_states, encoder_hidden_states)
        return (self.proj_out(hidden_states).reshape(shape) + residual,)


_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    Attention: ChannelsFirstAttention,
    BasicTransformerBlock: ChannelsFirstBlock,
    GEGLU: ChannelsFirstGeglu,
    nn.LayerNorm: ChannelNorm,
    nn.Linear: PointwiseLinear,
    Transformer2DModel: ChannelsFirstTransformer,
}
# What works on either layout.
_EITHER = (ApproximateGELU, FeedForward, GELU, nn.Conv2d, nn.Dropout, nn.GroupNorm, nn.ModuleList)
# Parts that only layers of other models have.
_EXTRAS = (
    *("norm_q", "norm_k", "norm_cross", "spatial_norm", "added_kv_proj_dim"),
    *("pos_embed", "fuser", "_chunk_size"),
)


def use_channels_first(inner: nn.Module, split: SplitEinsum) -> None:
    """Turns every transformer and attention layer of a module to channels first, in place.

    Args:
        inner: A U-Net, ControlNet or VAE of diffusers.
        split: How they attend.

    Raises:
        CheckpointError: There is a layer in one of them that this module does not know.
    """
    # An attention layer lies both below its transformer and by itself.
    tops = [each for each in inner.modules() if type(each) in (Transformer2DModel, Attention)]
    layers = list(dict.fromkeys(layer for top in tops for layer in top.modules()))
    for layer in layers:
        _require_known(layer)
    for layer in layers:
        if type(layer) in _CLASSES:
            layer.__class__ = _CLASSES[type(layer)]
        if isinstance(layer, ChannelsFirstAttention):
            layer.split = split


def _require_known(layer: nn.Module) -> None:
    """Refuses what no U-Net or VAE of the supported families has."""
    unusual = [name for name in _EXTRAS if getattr(layer, name, None)]
    if isinstance(layer, BasicTransformerBlock) and layer.norm_type != "layer_norm":
        unusual.append(layer.norm_type)
    if isinstance(layer, Transformer2DModel) and not layer.is_input_continuous:
        unusual.append("discrete input")
    if type(layer) not in _CLASSES and type(layer) not in _EITHER:
        unusual.append(type(layer).__name__)
    if unusual:
        raise CheckpointError(
            f"A transformer of this model uses {', '.join(unusual)}, which kdexport cannot turn "
            "to channels first; choose the attention original or sdpa."
        )


def _to_row(image: Tensor) -> Tensor:
    """`(batch, channels, height, width)` to `(batch, channels, 1, height * width)`."""
    return image.reshape(*image.shape[:2], 1, -1)
