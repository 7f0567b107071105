"""The tensor-only module around a text encoder (see `wrap.py`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.checkpoint import SKIPPED_STATE
from .wrap import Port, Wrapped


class WrappedTextEncoder(Wrapped):
    """A CLIP text encoder with every hidden state for SDXL, with a skipped one for SD."""

    def __init__(
        self, inner: Any, edge: torch.dtype, all_states: bool, skip: int | None = None
    ) -> None:
        """Wraps a text encoder.

        Args:
            inner: The module.
            edge: The type of its outputs.
            all_states: Give every hidden state.
            skip: Also give the hidden state before the last `skip` layers, with the final norm, as
                diffusers' `clip_skip` takes it for Stable Diffusion 1 and 2.
        """
        super().__init__(inner, edge)
        config = inner.config
        self.projected = hasattr(inner, "text_projection")
        self.all_states = all_states
        self.skip = skip
        self.inputs = (Port("input_ids", torch.int64, ("batch", config.max_position_embeddings)),)
        hidden = ("batch", config.max_position_embeddings, config.hidden_size)
        if self.projected:
            self.outputs = (
                Port("text_embeds", edge, ("batch", config.projection_dim)),
                Port("last_hidden_state", edge, hidden),
            )
        else:
            self.outputs = (
                Port("last_hidden_state", edge, hidden),
                Port("pooler_output", edge, ("batch", config.hidden_size)),
            )
        if all_states:
            count = config.num_hidden_layers + 1
            self.outputs += tuple(Port(f"hidden_states.{i}", edge, hidden) for i in range(count))
        if skip is not None:
            self.outputs += (Port(SKIPPED_STATE, edge, hidden),)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `Wrapped.forward`."""
        with_states = self.all_states or self.skip is not None
        result = self.inner(inputs[0], output_hidden_states=with_states, return_dict=True)
        first, second = (
            (result.text_embeds, result.last_hidden_state)
            if self.projected
            else (result.last_hidden_state, result.pooler_output)
        )
        states = tuple(result.hidden_states) if self.all_states else ()
        if self.skip is not None:
            # transformers 5 has the norm on the text model itself.
            norm = getattr(self.inner, "text_model", self.inner).final_layer_norm
            states += (norm(result.hidden_states[-(self.skip + 1)]),)
        return tuple(tensor.to(self.edge) for tensor in (first, second, *states))
