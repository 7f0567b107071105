"""What `verify` and `demo` do with a model whose pictures can be scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.checkpoint import Checkpoint
from ..core.errors import OptionError
from ..core.parity import QualityCheck
from .common import print_table
from .progress import Report

if TYPE_CHECKING:
    from ..calib.quality import Quality
    from ..runtimes.verify import Verification

# Scored where the user does not say how many, by the kind of bundle: evaluating Core ML programs
# takes many times what ONNX Runtime takes.
CAPTIONS = {"onnx": 64, "tensorrt": 64, "coreml": 16}


def captions_to_draw(checkpoint: Checkpoint, wanted: int | None, backend: str = "onnx") -> int:
    """How many captions to score: what the user asked for, else some where that means anything.

    Args:
        checkpoint: The model.
        wanted: What the user asked for, or None.
        backend: The kind of bundle.

    Raises:
        OptionError: The user asked for some, but the model draws no pictures that can be scored.
    """
    from ..calib.quality import draws_the_world

    if draws_the_world(checkpoint):
        return CAPTIONS[backend] if wanted is None else wanted
    if wanted:
        raise OptionError(
            f"The pictures of '{checkpoint.model}' cannot be scored, only those of the demo model; "
            "leave --captions out."
        )
    return 0


def with_quality(
    verification: Verification,
    bundle: Path,
    checkpoint: Checkpoint,
    captions: int,
    report: Report,
    *,
    runtime: str | None = None,
    provider: str | None = None,
) -> tuple[Verification, Quality]:
    """Draws and scores held-out captions, and adds the scores to a verification's record."""
    from ..calib.quality import measure_quality

    quality = measure_quality(
        bundle, checkpoint, captions, report, runtime=runtime, provider=provider
    )
    record = replace(verification.record, quality=quality.check)
    return replace(verification, record=record), quality


def print_quality(check: QualityCheck) -> None:
    """Prints the scores, a row per attribute."""
    rows = [
        [name, f"{100 * check.reference[name]:.1f}", f"{100 * check.bundle[name]:.1f}"]
        for name in check.reference
    ]
    title = f"{check.captions} captions, % right"
    print_table(title, ["what", ">diffusers", ">bundle"], rows)
    same = check.captions - check.unlike
    click.echo(f"{check.gate}: {'ok' if check.passed else 'FAILED'}")
    click.echo(f"{same} of {check.captions} pictures are within the image gate")
