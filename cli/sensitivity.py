"""`kdexport sensitivity`: what each format of each weight of a U-Net does to the picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.checkpoint import Checkpoint
from ..core.folder import require_vacant_file
from ..core.formats import FORMATS
from .common import (
    FOLDER,
    json_option,
    overwrite_option,
    print_json,
    print_table,
    require_export,
)
from .loops import Drawn
from .model_request import ModelRequest, model_request
from .progress import Report, progress

if TYPE_CHECKING:
    from ..calib.sensitivity import SensitivityOptions
    from ..calib.table import SensitivityTable

# What is tried where nothing else is asked for: what all systems have, few bits to many.
DEFAULT_FORMATS = ("palette8", "palette6", "palette4", "palette3", "palette2", "int8", "int4")
_ACTIVATIONS = ("int8-static", "int8-dynamic", "fp8")
_SHOWN = 12


@click.command(short_help="Find out how much each weight of MODEL may be rounded.")
@click.option("-o", "--output", type=FOLDER, required=True, help="The table to make, a JSON file.")
@click.option(
    "--formats",
    help=f"Formats to try, separated by commas, of {', '.join(f for f in FORMATS if f != 'float')};"
    f" else {', '.join(DEFAULT_FORMATS)}, and with --calibration {', '.join(_ACTIVATIONS)}.",
)
@click.option(
    "--calibration", type=FOLDER, help="What `kdexport calibrate` made, for formats of activations."
)
@click.option("--prompts", type=FOLDER, help="A text file of prompts, one a line; else built-in.")
@click.option("--count", type=int, default=2, show_default=True, help="Prompts to draw.")
@click.option("--steps", type=int, default=4, show_default=True, help="Denoising steps.")
@click.option(
    "--size", type=(int, int), metavar="H W", help="Image size; smaller ones take less memory."
)
@click.option("--guidance", type=float, help="Guidance scale; the model's own.")
@click.option(
    "--projections", type=int, default=4, show_default=True, help="Random directions per prompt."
)
@click.option(
    "--trials", type=int, default=12, show_default=True, help="Weights measured one by one."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of noise and directions.")
@model_request
@overwrite_option
@json_option
def sensitivity(
    subject: ModelRequest,
    output: Path,
    formats: str | None,
    calibration: Path | None,
    prompts: Path | None,
    count: int,
    steps: int,
    size: tuple[int, int] | None,
    guidance: float | None,
    projections: int,
    trials: int,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Find out how much each weight of MODEL's U-Net may be compressed.

    Predicts, for every weight and format, the error of the picture at the end of the denoising
    loop, from a few backward passes through all of it, and checks some of the predictions by
    drawing. `kdexport quantize --table` makes recipes of the result.
    """
    require_vacant_file(output, overwrite)
    require_export()
    from ..calib.sensitivity import SensitivityOptions
    from ..calib.table import save_table

    usual = (*DEFAULT_FORMATS, *(_ACTIVATIONS if calibration else ()))
    chosen = tuple(each.strip() for each in formats.split(",")) if formats else usual
    options = SensitivityOptions(chosen, projections, trials, seed)
    height, width = size or (None, None)
    drawn = Drawn(prompts, count, steps, height, width, guidance, seed)
    with progress(quiet=as_json) as report:
        checkpoint = subject.load()
        table = make_table(checkpoint, drawn, options, calibration, report)
        save_table(table, output, overwrite)
    if as_json:
        print_json(_summary(table, output))
    else:
        _print(table, output)


def make_table(
    checkpoint: Checkpoint,
    drawn: Drawn,
    options: SensitivityOptions,
    calibration: Path | None,
    report: Report,
) -> SensitivityTable:
    """Measures the sensitivity of a pipeline's U-Net.

    Raises:
        CalibrationError: The calibration data does not fit the model.
        KdexportError: The model cannot be read or drawn with.
    """
    from ..calib.ranges import measure_activations, ranges_of
    from ..calib.sensitivity import measure_sensitivity
    from ..calib.table import SensitivityTable
    from ..core.calibration import Calibration
    from ..export.description import describe_pipeline
    from .loops import open_model_loops

    size = (drawn.height, drawn.width) if drawn.height and drawn.width else None
    report("reading the model", 0.0)
    model = describe_pipeline(checkpoint, drawn.steps, size)
    activations = {}
    if calibration is not None:
        with Calibration.open(calibration) as data:
            data.require_model({"unet": model.architecture["unet"]}, checkpoint.model)
            inputs = model.manifest.component("unet").inputs
            data.require_ports("unet", {each.name: each.shape for each in inputs})
            activations = measure_activations(checkpoint, data, report)
    modules = open_model_loops(checkpoint, model, drawn, report)
    layers, trials = measure_sensitivity(modules, options, activations, report)
    return SensitivityTable(
        model=checkpoint.model,
        weights_sha256=model.manifest.source.weights_sha256,
        architecture={"unet": model.architecture["unet"]},
        made={
            "prompts": [loop.plan.prompts[0] for loop in modules.loops],
            "steps": drawn.steps,
            "guidance": modules.loops[0].plan.guidance,
            "height": modules.loops[0].plan.height,
            "width": modules.loops[0].plan.width,
            "seed": drawn.seed,
            "projections": options.projections,
            "kdexport": model.manifest.tools["kdexport"],
        },
        layers=layers,
        trials=trials,
        ranges=ranges_of(activations),
    )


def _summary(table: SensitivityTable, output: Path) -> dict[str, object]:
    from ..calib.table import psnr_of, rank_correlation

    correlation = rank_correlation(table.trials)
    return {
        "table": str(output),
        "layers": len(table.layers),
        "predicted_psnr_db": {
            form: psnr_of(sum(each.errors[form] for each in table.layers)) for form in table.formats
        },
        "rank_correlation": None if correlation != correlation else round(correlation, 4),
        "trials": [vars(each) for each in table.trials],
    }


def _print(table: SensitivityTable, output: Path) -> None:
    from ..calib.table import rank_correlation

    form = min(table.formats, key=lambda each: FORMATS[each].bits)
    worst = sorted(table.layers, key=lambda each: each.errors[form], reverse=True)[:_SHOWN]
    rows = [
        [each.name.removesuffix(".weight"), *(_db(each.errors[f]) for f in table.formats)]
        for each in worst
    ]
    totals = [sum(each.errors[f] for each in table.layers) for f in table.formats]
    rows.append([f"all {len(table.layers)} together", *map(_db, totals)])
    title = f"{table.model}: predicted PSNR of the picture in dB, the most sensitive weights"
    print_table(title, ["layer", *(f">{each}" for each in table.formats)], rows)
    if table.trials:
        measured = [
            [each.name, each.format, _db(each.predicted), _db(each.measured)]
            for each in table.trials
        ]
        columns = ["weight", "format", ">predicted", ">measured"]
        print_table("Checked by drawing (dB)", columns, measured)
        click.echo(f"Rank correlation: {rank_correlation(table.trials):.3f}.")
    click.echo(f"Wrote {output}.")


def _db(error: float) -> str:
    from ..calib.table import psnr_of

    return f"{psnr_of(error):.1f}" if error > 0 else "exact"
