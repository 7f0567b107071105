"""`kdexport calibrate`: what every component of a model is fed while it draws."""

from __future__ import annotations

from pathlib import Path

import click

from ..core.calibration import CalibrationRecord
from ..core.calibration_options import CalibrationOptions
from ..core.checkpoint import Checkpoint
from ..core.folder import megabytes, require_vacant_file
from ..core.records import encode
from .common import (
    FOLDER,
    json_option,
    overwrite_option,
    print_json,
    print_table,
    require_export,
)
from .model_request import ModelRequest, model_request
from .progress import Report, progress

# Where the user does not say how many steps, and the model would make more.
_MOST_STEPS = 25


@click.command(short_help="Record what diffusers feeds every component of MODEL.")
@click.option("-o", "--output", type=FOLDER, required=True, help="The file to make.")
@click.option("--prompts", type=FOLDER, help="A text file of prompts, one a line; else built-in.")
@click.option(
    "--control",
    "pictures",
    type=FOLDER,
    multiple=True,
    help="A picture for the ControlNet; may be repeated, and the prompts take them in turn.",
)
@click.option(
    "--samples", type=int, default=64, show_default=True, help="U-Net calls to keep, at most."
)
@click.option("--steps", type=int, help=f"Denoising steps; the model's own, at most {_MOST_STEPS}.")
@click.option("--size", type=(int, int), metavar="H W", help="Image size; the model's own.")
@click.option("--guidance", type=float, help="Guidance scale; the model's own.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice and the noise.")
@click.option(
    "--limit-mb", type=int, default=300, show_default=True, help="What the file may take."
)
@model_request
@overwrite_option
@json_option
def calibrate(
    subject: ModelRequest,
    output: Path,
    prompts: Path | None,
    pictures: tuple[Path, ...],
    samples: int,
    steps: int | None,
    size: tuple[int, int] | None,
    guidance: float | None,
    seed: int,
    limit_mb: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Record calibration data: what diffusers feeds every component of MODEL in float32.

    Prompts are drawn along true denoising runs, every fourth without guidance, and of all U-Net
    calls a random choice is kept that covers timesteps and prompts evenly.
    """
    height, width = size or (None, None)
    options = CalibrationOptions(
        samples=samples,
        steps=steps,
        height=height,
        width=width,
        guidance=guidance,
        seed=seed,
        limit_mb=limit_mb,
    )
    require_vacant_file(output, overwrite)
    require_export()

    with progress(quiet=as_json) as report:
        checkpoint = subject.load()
        record = _record(checkpoint, options, prompts, pictures, output, overwrite, report)
    if as_json:
        print_json({"calibration": str(output), **encode(record)})
    else:
        _print(record, output)


def _record(
    checkpoint: Checkpoint,
    options: CalibrationOptions,
    prompts: Path | None,
    pictures: tuple[Path, ...],
    output: Path,
    overwrite: bool,
    report: Report,
) -> CalibrationRecord:
    from ..calib.drawing import Subject
    from ..calib.prompts import default_prompts, read_prompts
    from ..calib.record import record_calibration
    from ..export.description import describe_pipeline
    from ..runtimes.picture import read_picture
    from .exporting import require_reference

    require_reference(checkpoint)
    seed = options.seed
    texts = read_prompts(prompts) if prompts else default_prompts(checkpoint, seed)
    images = [read_picture(each) for each in pictures]
    size = (options.height, options.width) if options.height and options.width else None
    report("reading the model", 0.0)
    described = describe_pipeline(checkpoint, options.steps or _MOST_STEPS, size)
    subject = Subject(checkpoint, described.manifest, described.sampler, described.architecture)
    return record_calibration(subject, texts, images, options, output, report, overwrite=overwrite)


def _print(record: CalibrationRecord, output: Path) -> None:
    rows = [
        [
            role,
            str(each.samples),
            _covered(each.timesteps),
            megabytes(each.bytes),
        ]
        for role, each in record.components.items()
    ]
    title = f"{record.model}: {len(record.prompts)} prompts, {record.steps} steps, guidance "
    title += f"{record.guidance:g}, {record.height}x{record.width}"
    print_table(title, ["component", ">samples", "timesteps", ">size"], rows)
    click.echo(f"Wrote {output} ({megabytes(output.stat().st_size)}).")


def _covered(timesteps: tuple[float, ...]) -> str:
    if not timesteps:
        return ""
    different = sorted(set(timesteps))
    return f"{len(different)} from {different[0]:g} to {different[-1]:g}"
