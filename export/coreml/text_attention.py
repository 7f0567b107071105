"""The attention of CLIP text encoders with a causal mask that float16 can hold.

transformers masks with the least float32 number, which is minus infinity in float16: infinity times
zero, or less itself, is not a number. With -10000 the softmax gives the same zeros, in float32 and
in float16, as long as no two scores of a query are some 9900 apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.models.clip.modeling_clip import CLIPAttention

from ...core.errors import CheckpointError

_MASKED = -1e4


class CausalAttention(CLIPAttention):  # type: ignore[misc]
    """The self-attention of a CLIP text encoder, with its own causal mask."""

    causal: Tensor

    def forward(
        self, hidden_states: Tensor, *ignored: Any, **also_ignored: Any
    ) -> tuple[Tensor, None]:
        """Attends to the tokens before.

        Args:
            hidden_states: `(batch, tokens, width)`.
            ignored: The masks of transformers, which are causal and nothing else here.
            also_ignored: What else transformers passes.

        Returns:
            The shape of `hidden_states`, and no weights.
        """
        split = (*hidden_states.shape[:-1], self.num_heads, self.head_dim)
        query, key, value = (
            layer(hidden_states).view(split).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = (query * self.scale) @ key.transpose(2, 3) + self.causal
        attended = scores.softmax(dim=-1) @ value
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None


def use_finite_masks(encoder: Any) -> None:
    """Gives every attention layer of a CLIP text encoder the finite mask, in place.

    Parameters keep their names; the mask is no part of the checkpoint.

    Raises:
        CheckpointError: It has no attention layer of CLIP.
    """
    layers = [each for each in encoder.modules() if type(each) is CLIPAttention]
    if not layers:
        raise CheckpointError(
            f"{type(encoder).__name__} is no CLIP text encoder, which is all that kdexport can "
            "export to Core ML."
        )
    tokens = encoder.config.max_position_embeddings
    mask = torch.full((tokens, tokens), _MASKED).triu(1)
    for layer in layers:
        layer.__class__ = CausalAttention
        layer.register_buffer("causal", mask, persistent=False)
