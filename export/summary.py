"""What a model consists of and costs, found out in seconds without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..core.checkpoint import Checkpoint
from ..core.errors import OptionError
from ..core.guidance import is_guided
from ..core.options import ModelOptions
from .cost import component_costs
from .hub import HubOptions
from .load import load_checkpoint
from .parts import text_length
from .sampler import compile_table, load_scheduler
from .skeleton import build_skeleton, config_of
from .wrap import unet_factor, vae_factor


@dataclass(frozen=True)
class PartSummary:
    """One part: its class, parameters, and multiply-accumulates of one call at batch 1."""

    role: str
    class_name: str
    parameters: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """A model.

    Attributes:
        model: What the user named.
        pipeline_class: Class of its diffusers pipeline.
        parts: Its parts.
        height: Image height that MACs are counted at, in pixels.
        width: Image width.
        multiple: Image sizes must be multiples of this.
        scheduler: Class of its scheduler.
        steps: Default number of steps.
        calls: U-Net calls that this scheduler makes for so many steps.
        guidance: Default guidance scale.
        negative_prompt: Default negative prompt, or None.
        random_weights: Whether its weights are made up.
        guidance_embedding: Size of the guidance embedding that the U-Net takes instead of a
            second row, or None.
    """

    model: str
    pipeline_class: str
    parts: tuple[PartSummary, ...]
    height: int
    width: int
    multiple: int
    scheduler: str
    steps: int
    calls: int
    guidance: float
    negative_prompt: str | None
    random_weights: bool
    guidance_embedding: int | None = None

    @property
    def guided(self) -> bool:
        """Whether guidance doubles the U-Net's batch."""
        return is_guided(self.guidance, self.guidance_embedding)

    @property
    def parameters(self) -> dict[str, int]:
        """Parameters of each part, by role."""
        return {part.role: part.parameters for part in self.parts}

    @property
    def macs_per_image(self) -> int:
        """Multiply-accumulates of one image at the defaults: text, all U-Net calls, decoder."""
        rows = 2 if self.guided else 1
        total = 0
        for part in self.parts:
            if part.role in {"unet", "controlnet"}:
                total += part.macs * rows * self.calls
            elif part.role == "vae_decoder":
                total += part.macs
            elif part.role.startswith("text_encoder"):
                total += part.macs * rows
        return total

    def facts(self) -> dict[str, Any]:
        """What a run does by default, for people."""
        return {
            "scheduler": f"{self.scheduler}, {self.steps} steps, {self.calls} U-Net calls",
            "guidance": f"{self.guidance:g}"
            + (", two U-Net rows per image" if self.guided else ", one U-Net row per image")
            + (", as an embedding" if self.guidance_embedding else ""),
            "negative prompt": self.negative_prompt or "none",
            "MACs of one image": f"{self.macs_per_image / 1e9:,.1f} G",
            "sizes": f"multiples of {self.multiple} pixels",
            "weights": "random" if self.random_weights else "trained",
        }

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {
            **vars(self),
            "parts": [vars(part) for part in self.parts],
            "guided": self.guided,
            "macs_per_image": self.macs_per_image,
        }


def summarize(
    model: str, hub: HubOptions, size: tuple[int, int] | None, extra: ModelOptions | None = None
) -> Summary:
    """Finds a model and counts, see `summarize_checkpoint`.

    Args:
        model: See `load_checkpoint`.
        hub: How the Hub is asked.
        size: Image height and width to count at, or None for the trained size.
        extra: What completes, describes or replaces parts of the model.

    Raises:
        CheckpointError: The model cannot be found or understood.
        OptionError: The size does not fit the model.
    """
    return summarize_checkpoint(load_checkpoint(model, hub, extra), size)


def summarize_checkpoint(checkpoint: Checkpoint, size: tuple[int, int] | None) -> Summary:
    """Reads a model's configs and counts.

    Args:
        checkpoint: The model.
        size: Image height and width to count at, or None for the trained size.

    Raises:
        CheckpointError: A class refuses its config.
        OptionError: The size does not fit the model.
    """
    unet, vae = (
        config_of(build_skeleton(checkpoint.component(name), torch.float32))
        for name in ("unet", "vae")
    )
    factor = vae_factor(vae)
    multiple = factor * unet_factor(unet)
    height, width = size or (unet.sample_size * factor,) * 2
    if height % multiple or width % multiple or min(height, width) < 1:
        raise OptionError(f"The size must be in multiples of {multiple}, not {height} {width}.")
    steps = int(checkpoint.defaults["steps"])
    return Summary(
        model=checkpoint.model,
        pipeline_class=checkpoint.pipeline_class,
        parts=_parts(checkpoint, height // factor, width // factor),
        height=height,
        width=width,
        multiple=multiple,
        scheduler=str(checkpoint.scheduler["_class_name"]),
        steps=steps,
        calls=compile_table(load_scheduler(checkpoint.scheduler), steps).calls,
        guidance=float(checkpoint.defaults["guidance"]),
        negative_prompt=checkpoint.defaults["negative_prompt"],
        random_weights=checkpoint.random_weights,
        guidance_embedding=unet.time_cond_proj_dim,
    )


def _parts(checkpoint: Checkpoint, height: int, width: int) -> tuple[PartSummary, ...]:
    parts, tokens = [], text_length(checkpoint)
    for source in checkpoint.components.values():
        for role, cost in component_costs(source, height, width, tokens).items():
            parts.append(PartSummary(role, source.class_name, cost.parameters, cost.macs))
    return tuple(parts)
