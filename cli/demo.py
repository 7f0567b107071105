"""`kdexport demo`: the main job on a small model, with a picture and figures at the end."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.folder import require_vacant, whole_folder
from ..core.options import OnnxOptions, VerifyOptions
from .common import FOLDER, overwrite_option, print_parity, progress, require_export
from .onnx import print_files

MODEL = "zoo:bk-sdm-small-narrow"
PROMPT = "a golden vase with different flowers"
SEED, STEPS = 0, 25


@click.command()
@click.option(
    "-o", "--output", type=FOLDER, default="demo-out", show_default=True, help="Folder to make."
)
@overwrite_option
def demo(output: Path, overwrite: bool) -> None:
    """Export a small BK-SDM-shaped pipeline, draw with it, compare with diffusers.

    Leaves the bundle, the picture, and diffusers' picture beside it. The weights are random (no
    trained ones ship with kdexport yet), so the pictures show a pattern; what the demo shows is
    that both sides draw the same one.
    """
    require_export()
    require_vacant(output, overwrite)
    from ..export.load import load_checkpoint
    from .exporting import export_and_verify

    verify = VerifyOptions(steps=STEPS, prompts=(PROMPT,), seed=SEED)
    with whole_folder(output, overwrite=overwrite) as staging:
        with progress(quiet=False) as report:
            report("making the model", 0.0)
            checkpoint = load_checkpoint(MODEL)
            exported = export_and_verify(
                checkpoint, OnnxOptions(), staging / "bundle", verify, False, report
            )
        assert exported.verification is not None
        ours, reference = (pictures[0] for pictures in exported.verification.pictures[0])
        Image.fromarray(ours).save(staging / "image.png")
        _side_by_side(ours, reference, staging / "comparison.png")
    print_files(exported.manifest)
    print_parity(exported.verification.record)
    click.echo(f"{output}/image.png        drawn by the bundle, without torch")
    click.echo(f"{output}/comparison.png   the bundle, diffusers, and their difference x 50")
    click.echo(f"{output}/bundle           the bundle; parity figures in parity.json")


def _side_by_side(ours: NDArray[np.uint8], reference: NDArray[np.uint8], path: Path) -> None:
    difference = np.abs(ours.astype(np.int16) - reference.astype(np.int16)) * 50
    row = np.concatenate([ours, reference, difference.clip(0, 255).astype(np.uint8)], axis=1)
    scale = max(1, 384 // ours.shape[0])
    Image.fromarray(row).resize(
        (row.shape[1] * scale, row.shape[0] * scale), Image.Resampling.NEAREST
    ).save(path)
