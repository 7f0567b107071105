"""`kdexport demo`: the main job on the model in the box, with pictures and figures at the end."""

from __future__ import annotations

from pathlib import Path

import click
from PIL import Image

from ..core.folder import require_vacant, whole_folder
from ..core.options import OnnxOptions, VerifyOptions
from .common import (
    FOLDER,
    overwrite_option,
    print_parity,
    require_export,
)
from .export_options import print_files
from .progress import progress

MODEL = "demo"
PROMPT = "a yellow vase with three red flowers on a lavender background"
SEED = 0
SCORED, SHEET = 32, 16  # captions that are drawn, and how many of them are on the sheet
_MAGNIFIED = 3  # the picture of 128 pixels, for people to look at


@click.command(short_help="Export the model in the box, draw with it, compare.")
@click.option(
    "-o", "--output", type=FOLDER, default="demo-out", show_default=True, help="Folder to make."
)
@overwrite_option
def demo(output: Path, overwrite: bool) -> None:
    """Export the model in the box, draw with it, compare with diffusers.

    The model is a student in the shape of BK-SDM-Small, small and distilled on pictures of
    coloured shapes. It draws captions that it has never seen, through diffusers and through the
    exported bundle; the pictures of both lie side by side on a sheet, and both are scored.
    """
    require_export()
    require_vacant(output, overwrite)
    from ..calib.sheet import picture_sheet
    from ..export.load import load_checkpoint
    from .exporting import export_and_verify, require_parity, save_verification
    from .world import print_quality, with_quality

    with whole_folder(output, overwrite=overwrite) as staging:
        bundle = staging / "bundle"
        with progress(quiet=False) as report:
            checkpoint = load_checkpoint(MODEL)
            verify = VerifyOptions(steps=checkpoint.defaults["steps"], prompts=(PROMPT,), seed=SEED)
            exported = export_and_verify(checkpoint, OnnxOptions(), bundle, verify, False, report)
            assert exported.verification is not None
            verification, quality = with_quality(
                exported.verification, bundle, checkpoint, SCORED, report
            )
        save_verification(verification, bundle)
        columns = {"diffusers": quality.theirs, "bundle": quality.ours}
        picture_sheet(quality.captions[:SHEET], columns, across=2).save(staging / "sheet.png")
        image = Image.fromarray(verification.pictures[0][0][0])
        size = (image.width * _MAGNIFIED, image.height * _MAGNIFIED)
        image.resize(size, Image.Resampling.LANCZOS).save(staging / "image.png")
    print_files(exported.manifest)
    print_parity(verification.record)
    print_quality(quality.check)
    click.echo(f"{output}/image.png   a vase with flowers, drawn by the bundle")
    click.echo(f"{output}/sheet.png   captions that training never saw: diffusers, the bundle")
    click.echo(f"{output}/bundle      draws without torch; its report.html has every figure")
    require_parity(verification.record, "the bundle does not draw what the reference draws")
