"""The text encoders as Core ML models: token ids to hidden states and a pooled embedding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...core.checkpoint import SKIPPED_STATE
from .ports import AppleModule, ApplePort
from .text_attention import use_finite_masks

_STATE = "Hidden states of the tokens, as the U-Net takes them."
_UNSKIPPED = "The same without clip-skip, as diffusers takes them for negative prompts."


class AppleTextEncoder(AppleModule):
    """A CLIP text encoder.

    Apple's package runs one encoder for the prompt and the negative prompt and takes one output of
    it, whereas diffusers' `clip_skip` skips layers of the prompt only. With a clip-skip, the output
    that Apple's package takes is the skipped one, so there both prompts skip (as they do in other
    programs with such a setting), and an output beside it, `unskipped_…`, is what a negative prompt
    should become; whoever reads both draws what diffusers draws.
    """

    positions: Tensor
    summary = "Turns the tokens of a prompt into the embeddings that the U-Net is steered by."

    def __init__(self, inner: Any, xl: bool, skip: int | None = None) -> None:
        """Wraps a text encoder, whose attention masks are changed in place.

        Args:
            inner: A `CLIPTextModel` or a `CLIPTextModelWithProjection`.
            xl: Whether it belongs to SDXL, which takes the last state but one, without the norm.
            skip: The last layers to leave out, as diffusers' `clip_skip` counts them: for Stable
                Diffusion 1 and 2 with the final norm, for SDXL one layer earlier.
        """
        super().__init__(inner)
        use_finite_masks(inner)
        config = inner.config
        self.xl, self.skip = xl, skip
        # Given, because coremltools cannot follow how transformers takes them from its own.
        positions = torch.arange(config.max_position_embeddings, dtype=torch.int32)[None]
        self.register_buffer("positions", positions, persistent=False)
        tokens, width = config.max_position_embeddings, config.hidden_size
        projected = hasattr(inner, "text_projection")
        ids = "Token ids, begin and end included, padded to the full length."
        self.inputs = (ApplePort("input_ids", torch.float32, (1, tokens), ids, "input_ids"),)
        pooled = ApplePort(
            "pooled_outputs",
            torch.float32,
            (1, config.projection_dim if projected else width),
            "Embedding of the whole prompt.",
            "text_embeds" if projected else "pooler_output",
        )
        names = _names(xl, skip, config.num_hidden_layers)
        first, *more = (
            ApplePort(name, torch.float32, (1, tokens, width), told, alias)
            for name, alias, told in names
        )
        self.outputs = (first, pooled, *more)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `AppleModule.forward`."""
        # Apple's package hands token ids over as floating-point numbers.
        states = self.xl or self.skip is not None
        result = self.inner(
            inputs[0].int(),
            position_ids=self.positions,
            output_hidden_states=states,
            return_dict=True,
        )
        pooled = result.text_embeds if "text_embeds" in result else result.pooler_output
        plain = result.hidden_states[-2] if self.xl else result.last_hidden_state
        if self.skip is None:
            return plain, pooled
        if self.xl:
            return result.hidden_states[-(self.skip + 2)], pooled, plain
        # transformers 5 has the norm on the text model itself.
        norm = getattr(self.inner, "text_model", self.inner).final_layer_norm
        return norm(result.hidden_states[-(self.skip + 1)]), pooled, plain


def _names(xl: bool, skip: int | None, layers: int) -> list[tuple[str, str, str]]:
    """Names, aliases and descriptions of the hidden states that a model gives."""
    name = "hidden_embeds" if xl else "last_hidden_state"
    plain = f"hidden_states.{layers - 1}" if xl else "last_hidden_state"
    if skip is None:
        return [(name, plain, _STATE)]
    skipped = f"hidden_states.{layers - 1 - skip}" if xl else SKIPPED_STATE
    return [(name, skipped, _STATE), (f"unskipped_{name}", plain, _UNSKIPPED)]
