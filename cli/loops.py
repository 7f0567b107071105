"""Runs of a model that sensitivity and recipes are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.checkpoint import Checkpoint
from ..core.errors import OptionError
from .progress import Report

if TYPE_CHECKING:
    from ..calib.loop import LoopModules
    from ..export.description import Description


@dataclass(frozen=True)
class Drawn:
    """What is drawn to measure on.

    Attributes:
        prompts: Text file of prompts, or None for built-in ones.
        count: How many of them.
        steps: Denoising steps.
        height: Image height in pixels, or None for the model's own.
        width: Image width in pixels, or None.
        guidance: Guidance scale, or None for the model's own.
        seed: Of the noise.
    """

    prompts: Path | None = None
    count: int = 2
    steps: int = 4
    height: int | None = None
    width: int | None = None
    guidance: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.steps < 1:
            raise OptionError(
                f"There must be at least one prompt and one step, not {self.count} and "
                f"{self.steps}."
            )


def open_model_loops(
    checkpoint: Checkpoint,
    description: Description,
    drawn: Drawn,
    report: Report,
    prompts: tuple[str, ...] | None = None,
) -> LoopModules:
    """Encodes prompts, and loads what draws them.

    Args:
        checkpoint: The pipeline.
        description: What it is like.
        drawn: How to draw.
        report: Told what is being done and how far it is.
        prompts: What to draw, whatever else is said of prompts.

    Raises:
        OptionError: The model cannot draw this, or there are fewer prompts.
        KdexportError: A component cannot be loaded.
    """
    from ..calib.loop import open_loops
    from ..calib.prompts import default_prompts, read_prompts
    from ..runtimes.plan import make_plan
    from ..runtimes.request import Request
    from .exporting import require_reference

    require_reference(checkpoint)
    texts = prompts or default_prompts(checkpoint, 0)
    if drawn.prompts and prompts is None:
        texts = read_prompts(drawn.prompts)
    if len(texts) < drawn.count:
        raise OptionError(f"There are {len(texts)} prompts, fewer than the {drawn.count} to draw.")
    plans = [
        make_plan(
            Request(
                prompt=text,
                steps=drawn.steps,
                guidance=drawn.guidance,
                seed=drawn.seed + number,
                height=drawn.height,
                width=drawn.width,
            ),
            description.manifest,
        )
        for number, text in enumerate(texts[: drawn.count])
    ]
    return open_loops(checkpoint, plans, description.sampler.table(drawn.steps), report)
