"""`kdexport coreml`: a pipeline to the packages of an iPhone or Mac app."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..core.checkpoint import Checkpoint
from ..core.coreml_formats import palette_named, with_text_encoders
from ..core.coreml_options import (
    COMPUTE_UNITS,
    COREML_ATTENTIONS,
    COREML_PRECISIONS,
    COREML_TARGETS,
    CoremlOptions,
)
from ..core.manifest import Manifest
from .export_options import ExportRequest, export_options, run_export, target_options
from .exporting import Exported, export_coreml_and_verify
from .progress import Report
from .quantization import QuantizeRequest, quantize_options

_NEXT_STEPS = """\
Next, on a Mac:
  scripts/compile_coreml.sh {output}     compiles every package into {output}/Resources
  Drag Resources into your Xcode project (as a folder reference) and add the Swift package
  https://github.com/apple/ml-stable-diffusion; then
  {pipeline}
"""


def palettize_option(command: Callable[..., None]) -> Callable[..., None]:
    """Adds `--palettize`, which is `--quantize` by another name; digits mean palettes in both."""

    @functools.wraps(command)
    def renamed(palettize: str | None, quantize: str | None, target: str, **given: Any) -> None:
        if palettize is not None and quantize is not None:
            raise click.UsageError("--palettize is --quantize by another name; give one of them.")
        what = quantize if palettize is None else palettize
        if what is not None and what.isdecimal():
            what = palette_named(what, target)
        command(quantize=what, target=target, **given)

    return click.option(
        "--palettize",
        metavar="8|6|4|3|2|1|RECIPE.json",
        help="The same as --quantize: bits of k-means palettes, or of each layer.",
    )(renamed)


@click.command(short_help="Export MODEL to Core ML packages for Apple's Swift library.")
@target_options
@click.option(
    "--attention",
    default="split-einsum",
    show_default=True,
    help=f"{', '.join(COREML_ATTENTIONS)}; the split ones are for the Neural Engine.",
)
@click.option("--slice-size", type=int, help="Queries per slice, for original and v2.")
@click.option(
    "--precision",
    default="fp16",
    show_default=True,
    help=f"{', '.join(COREML_PRECISIONS)}; fp16 keeps in float32 what measuring finds to need it.",
)
@click.option(
    "--target",
    default="iOS17",
    show_default=True,
    help=f"Oldest system: {', '.join(COREML_TARGETS)}, and the macOS of its year.",
)
@click.option(
    "--compute-units", help=f"{', '.join(COMPUTE_UNITS)}; where left out, what fits the attention."
)
@click.option(
    "--size",
    "sizes",
    type=(int, int),
    multiple=True,
    metavar="H W",
    help="Image size in pixels; may be repeated, the first one is the default.",
)
@click.option(
    "--guidance-batch",
    type=int,
    help="Rows of the U-Net, 1 or 2; where left out, 2 if the model is run with guidance.",
)
@click.option("--chunk", is_flag=True, help="Split the U-Net in two packages.")
@click.option(
    "--epsilon", is_flag=True, help="Turn a v-prediction into noise, for Apple's library."
)
@palettize_option
@quantize_options
@export_options
def coreml(
    request: ExportRequest,
    attention: str,
    slice_size: int | None,
    precision: str,
    target: str,
    compute_units: str | None,
    sizes: tuple[tuple[int, int], ...],
    guidance_batch: int | None,
    quantize: QuantizeRequest | None,
    chunk: bool,
    epsilon: bool,
) -> None:
    """Export MODEL to Core ML packages that Apple's Swift library loads.

    MODEL is what `kdexport onnx` takes. The packages have the names, inputs and outputs of
    apple/ml-stable-diffusion. They are run here, on any system, by evaluating their programs with
    every result rounded as Apple's hardware does; on macOS by Core ML itself. Unless --no-verify is
    given, the export is compared with diffusers at the end, and kept only if every gate holds.
    """
    options = CoremlOptions(
        precision=precision,
        attention=attention,
        slice_size=slice_size,
        target=target,
        compute_units=compute_units,
        sizes=sizes,
        rows=guidance_batch,
        chunk=chunk,
        epsilon=epsilon,
        with_encoder=request.with_encoder,
        schedulers=request.schedulers,
        max_steps=request.max_steps,
    )

    def export(checkpoint: Checkpoint, report: Report) -> Exported:
        quantization = None
        if quantize is not None:
            resolved = quantize.resolve(checkpoint, report)
            quantization = with_text_encoders(resolved, checkpoint.text_encoders)
        return export_coreml_and_verify(
            checkpoint,
            replace(options, quantization=quantization),
            request.output,
            request.verify,
            request.no_verify,
            request.overwrite,
            report,
        )

    manifest = run_export(request, export)
    if manifest is not None:
        _print_next_steps(request.output, manifest)


def _print_next_steps(output: Path, manifest: Manifest) -> None:
    """What to do with the bundle in Xcode."""
    xl = manifest.family == "sdxl"
    controlnet = '"ControlNet"' if manifest.control else ""
    pipeline = f"try StableDiffusionPipeline(resourcesAt: url, controlNet: [{controlnet}])"
    if xl:
        pipeline = "try StableDiffusionXLPipeline(resourcesAt: url)"
    click.echo(_NEXT_STEPS.format(output=output, pipeline=pipeline))
    if manifest.coreml and manifest.coreml.rows == 1 and not xl:
        click.echo("  The U-Net has one row: set guidanceScale below 1 in Apple's library.")
