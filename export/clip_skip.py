"""Clip-skip as diffusers' argument `clip_skip` defines it: which hidden states prompts are.

Stable Diffusion 1 and 2 take the state before the last `clip_skip` layers through the final norm;
SDXL takes it without the norm, and one layer earlier. Negative prompts never skip.
"""

from __future__ import annotations

from ..core.checkpoint import SKIPPED_STATE, Checkpoint
from ..core.errors import OptionError


def hidden_outputs(checkpoint: Checkpoint, encoder: str) -> tuple[str, str]:
    """The outputs of a text encoder that prompts and negative prompts become.

    Args:
        checkpoint: The pipeline, its `clip_skip` set.
        encoder: `text_encoder` or `text_encoder_2`.
    """
    skip = checkpoint.clip_skip
    if checkpoint.family == "sdxl":
        # There are layers + 1 hidden states, and SDXL never takes the last one.
        last = _layers(checkpoint, encoder) - 1
        return f"hidden_states.{last - (skip or 0)}", f"hidden_states.{last}"
    return "last_hidden_state" if skip is None else SKIPPED_STATE, "last_hidden_state"


def require_layers(checkpoint: Checkpoint, skip: int) -> None:
    """Raises `OptionError` where a text encoder has no state before its last `skip` layers."""
    spare = 1 if checkpoint.family == "sdxl" else 0
    for encoder in checkpoint.text_encoders:
        most = _layers(checkpoint, encoder) - spare
        if skip > most:
            raise OptionError(
                f"The clip-skip must be at most {most} for the '{encoder}' of "
                f"'{checkpoint.model}', not {skip}."
            )


def _layers(checkpoint: Checkpoint, encoder: str) -> int:
    # What a config leaves out has the default of transformers.
    return int(checkpoint.components[encoder].config.get("num_hidden_layers", 12))
