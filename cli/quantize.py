"""`kdexport quantize`: smaller forms of a model, each with its measured quality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.checkpoint import Checkpoint
from ..core.coreml_options import COREML_TARGETS
from ..core.errors import BundleError, OptionError, ParityError, listing
from ..core.folder import megabytes, require_vacant
from ..core.manifest import load_manifest
from ..core.options import PRECISIONS, VerifyOptions, require_choice
from ..core.recipe import PRESETS
from ..core.records import encode
from .budgets import TABLE, Budget, make_recipe, parse_size
from .common import (
    FOLDER,
    json_option,
    overwrite_option,
    print_json,
    print_table,
    require_export,
)
from .compressing import (
    BACKENDS,
    FIGURES,
    PAGE,
    PICTURE,
    Target,
    form_named,
    make_form,
    save_figures,
)
from .exporting import require_reference
from .model_request import ModelRequest, model_request
from .progress import progress
from .quantization import print_coverage
from .world import captions_to_draw

if TYPE_CHECKING:
    from ..calib.figures import FormFigures, Sweep


@click.command(short_help="Store MODEL in fewer bits, and measure what that costs.")
@click.option(
    "-o", "--output", type=FOLDER, required=True, help="The folder of the forms; added to."
)
@click.option("--backend", default="onnx", show_default=True, help=", ".join(BACKENDS))
@click.option(
    "--format",
    "formats",
    multiple=True,
    metavar="FORMAT|PRECISION|RECIPE.json",
    help=f"May be repeated, for a sweep. Precisions: {', '.join(PRECISIONS)}; formats: "
    f"{', '.join(name for name in PRESETS if name != 'float')}.",
)
@click.option(
    "--target-size",
    "target_sizes",
    multiple=True,
    metavar="SIZE",
    help="Make a recipe: the best formats of layers in so much, such as 180MB, for the U-Net's "
    "weights.",
)
@click.option(
    "--target-psnr",
    "target_psnrs",
    multiple=True,
    type=float,
    metavar="DB",
    help="Make a recipe: the smallest that draws the picture with this PSNR.",
)
@click.option(
    "--table",
    type=FOLDER,
    help=f"What `kdexport sensitivity` made; else {TABLE} of the output folder, which is made "
    "where it is missing.",
)
@click.option("--candidates", help="Formats that recipes choose among, separated by commas.")
@click.option(
    "--calibration", type=FOLDER, help="What `kdexport calibrate` made, for formats of activations."
)
@click.option(
    "--target", "system", default="iOS18", show_default=True, help=", ".join(COREML_TARGETS)
)
@click.option("--gpu", default="4090", show_default=True, help="What TensorRT's engines are for.")
@click.option("--chunk", is_flag=True, help="Split the U-Net of Core ML packages in two.")
@click.option("--steps", type=int, default=4, show_default=True, help="Steps of the comparison.")
@click.option("--size", type=(int, int), metavar="H W", help="Image size; the model's own.")
@click.option(
    "--captions",
    type=click.IntRange(min=0),
    help="Held-out captions to draw and score; for the demo model, 64 if left out, 16 of Core ML.",
)
@model_request
@overwrite_option
@json_option
def quantize(
    subject: ModelRequest,
    output: Path,
    backend: str,
    formats: tuple[str, ...],
    target_sizes: tuple[str, ...],
    target_psnrs: tuple[float, ...],
    table: Path | None,
    candidates: str | None,
    calibration: Path | None,
    system: str,
    gpu: str,
    chunk: bool,
    steps: int,
    size: tuple[int, int] | None,
    captions: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Store MODEL in fewer bits, and measure what that costs.

    Makes a bundle for every format, recipe and target below the output folder, compares each with
    diffusers, and adds their figures to figures.html, figures.json and figures.png there; for the
    demo model with the share of captions that the pictures still follow. Exits with status 3 where
    a gate fails; the bundle stays, for its figures.
    """
    require_choice(backend, BACKENDS, "backend")
    chosen = None if candidates is None else tuple(each.strip() for each in candidates.split(","))
    budgets = [Budget(bytes=parse_size(each), candidates=chosen) for each in target_sizes]
    budgets += [Budget(psnr_db=each, candidates=chosen) for each in target_psnrs]
    if not formats and not budgets:
        raise OptionError("Nothing to make; give a --format, a --target-size or a --target-psnr.")
    height, width = size or (None, None)
    require_export()
    from ..calib.plot import require_plotting

    require_plotting()
    verify = VerifyOptions(steps=steps, height=height, width=width)
    forms = [form_named(each, backend, calibration) for each in formats]
    names = [*(each.name for each in forms), *(each.name for each in budgets)]
    _require_vacant(names, backend, output, overwrite)
    made: list[FormFigures] = []
    with progress(quiet=as_json) as report:
        checkpoint = subject.load()
        require_reference(checkpoint)
        scored = captions_to_draw(checkpoint, captions, backend)
        target = Target(backend, system, gpu, chunk, verify, scored)
        for form in forms:
            target.require(form)
        report("reading the model", 0.0)
        sweep = _sweep(checkpoint, verify, output)
        for budget in budgets:
            file = make_recipe(budget, checkpoint, target, table, output, report)
            ranges = calibration or table
            forms.append(form_named(str(file), backend, ranges, budget.name))
        for form in forms:
            made.append(make_form(form, checkpoint, target, output, overwrite, report))
            # After each, so that these are kept where a later one fails.
            sweep = sweep.with_form(made[-1])
            save_figures(output, sweep)
    if as_json:
        print_json([encode(each) for each in made])
    else:
        print_figures(sweep)
        for each in made:
            bundle = output / each.bundle
            if backend == "onnx":
                print_coverage(bundle, load_manifest(bundle))
        click.echo(f"Wrote {output / PAGE}, with {FIGURES} and {PICTURE} beside it.")
    failed = [each.form for each in made if not each.passed]
    if failed:
        raise ParityError(
            f"{listing(failed)} missed a parity gate; take more bits, or make a recipe with "
            "--target-psnr."
        )


def _require_vacant(names: Sequence[str], backend: str, output: Path, overwrite: bool) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError(f"{listing(twice)} was asked for twice; name each form once.")
    if output.exists() and not output.is_dir():
        raise BundleError(f"'{output}' is a file; name a folder for the forms.")
    for name in names:
        require_vacant(output / f"{backend}-{name}", overwrite)


def _sweep(checkpoint: Checkpoint, verify: VerifyOptions, output: Path) -> Sweep:
    """What the output folder has already, held against what is asked for now."""
    from ..calib.figures import Sweep, continued
    from ..export.description import describe_pipeline

    size = (verify.height, verify.width) if verify.height and verify.width else None
    manifest = describe_pipeline(checkpoint, verify.steps, size).manifest
    drawn = {
        "steps": verify.steps,
        "height": verify.height or manifest.defaults.height,
        "width": verify.width or manifest.defaults.width,
    }
    sweep = Sweep(checkpoint.model, manifest.source.weights_sha256, drawn)
    return continued(sweep, output / FIGURES)


def print_figures(sweep: Sweep) -> None:
    """Prints a row per form."""
    rows = [
        [
            each.backend,
            each.form,
            megabytes(each.bytes),
            megabytes(each.unet_bytes),
            "" if each.macs is None else f"{100 * each.macs:.0f}",
            "broken" if "unet" in each.broken else _db(each.component_psnr_db.get("unet")),
            "broken" if "picture" in each.broken else _db(each.image_psnr_db),
            f"{each.image_ssim:.4f}",
            "" if each.scores is None else f"{100 * each.scores['overall']:.1f}",
            "[green]ok[/green]" if each.passed else "[red]FAILED[/red]",
        ]
        for each in sweep.forms
    ]
    columns = ["backend", "form", ">all models", ">U-Net", ">MACs %", ">U-Net dB", ">picture dB"]
    title = f"{sweep.model}, beside diffusers in float32"
    print_table(title, [*columns, ">SSIM", ">captions %", "gates"], rows)


def _db(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"
