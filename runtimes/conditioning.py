"""Prompts to what the U-Net is conditioned on, as diffusers' SD and SDXL pipelines do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import BundleError
from ..core.manifest import Manifest
from .components import Components, call_by_rows, require_finite
from .guidance import guidance_embedding
from .plan import Plan
from .tokenizer import ClipTokenizer


@dataclass(frozen=True, eq=False)
class Conditioning:
    """One row per U-Net row; with guidance first all negative rows, then all positive ones.

    Attributes:
        hidden: `encoder_hidden_states`, `(rows, tokens, channels)`, float32.
        pooled: SDXL's `text_embeds`, `(rows, channels)`, float32, or None.
        time_ids: SDXL's sizes, `(rows, 6)`, float32, or None.
        guidance: The embedded guidance scale, `(rows, channels)`, float32, or None.
    """

    hidden: NDArray[np.float32]
    pooled: NDArray[np.float32] | None = None
    time_ids: NDArray[np.float32] | None = None
    guidance: NDArray[np.float32] | None = None

    def feed(self) -> dict[str, NDArray[np.float32]]:
        """The inputs of the U-Net that hold it."""
        named = {
            "encoder_hidden_states": self.hidden,
            "text_embeds": self.pooled,
            "time_ids": self.time_ids,
            "timestep_cond": self.guidance,
        }
        return {name: array for name, array in named.items() if array is not None}


def encode(
    plan: Plan, manifest: Manifest, components: Components, tokenizers: Sequence[ClipTokenizer]
) -> Conditioning:
    """Encodes the prompts of a plan.

    Raises:
        BundleError: An SDXL bundle names no pooled output.
        RunError: A text encoder failed, or gave NaN or infinite values.
    """
    hidden, pooled = _encode_texts(plan, components, tokenizers)
    if plan.guided and plan.negatives is None:
        hidden = np.concatenate([np.zeros_like(hidden), hidden])
        pooled = None if pooled is None else np.concatenate([np.zeros_like(pooled), pooled])
    # Row after row, so that the images of one prompt lie together.
    hidden = np.repeat(hidden, plan.images_per_prompt, axis=0)
    guidance = None
    if plan.guidance_size is not None:
        embedding = guidance_embedding(plan.guidance, plan.guidance_size)
        guidance = np.tile(embedding, (len(hidden), 1))
    if manifest.family == "sd":
        return Conditioning(hidden, guidance=guidance)
    if pooled is None:
        raise BundleError(
            "The manifest names no pooled output of a text encoder, which SDXL needs; export the "
            "model again."
        )
    # Original size, crop offset and target size.
    sizes = np.array([plan.height, plan.width, 0, 0, plan.height, plan.width], np.float32)
    return Conditioning(
        hidden,
        np.repeat(pooled, plan.images_per_prompt, axis=0),
        np.tile(sizes, (len(hidden), 1)),
        guidance,
    )


def _encode_texts(
    plan: Plan, components: Components, tokenizers: Sequence[ClipTokenizer]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Hidden states of all encoders side by side, and the last pooled output there is."""
    negatives = plan.negatives or ()
    texts = (*negatives, *plan.prompts)
    hidden, pooled = [], None
    for tokenizer in tokenizers:
        encoding = tokenizer.encoding
        tokens = tokenizer(texts)
        tokenizer.warn(tokens)
        negative = encoding.negative_output or encoding.hidden_output
        named = (encoding.hidden_output, negative, encoding.pooled_output)
        outputs = [name for name in dict.fromkeys(named) if name is not None]
        with components.use(encoding.role) as runner:
            results = call_by_rows(runner, "input_ids", tokens.ids, outputs)
        for output in outputs:
            require_finite(results[output], f"The {encoding.role}")
        split = len(negatives)
        rows = (results[negative][:split], results[encoding.hidden_output][split:])
        hidden.append(np.concatenate(rows))
        if encoding.pooled_output is not None:
            pooled = results[encoding.pooled_output]
    return np.concatenate(hidden, axis=-1), pooled
