"""`kdexport coreml`: a pipeline to the packages of an iPhone or Mac app."""

from __future__ import annotations

from pathlib import Path

import click

from ..core.adapters import Adapter
from ..core.coreml_options import (
    COMPUTE_UNITS,
    COREML_ATTENTIONS,
    COREML_PRECISIONS,
    COREML_TARGETS,
    CoremlOptions,
)
from ..core.manifest import Manifest
from ..core.options import DEFAULT_SCHEDULERS, ModelOptions, VerifyOptions
from .common import (
    FOLDER,
    hub_options,
    json_option,
    model_options,
    overwrite_option,
    print_json,
    print_parity,
    progress,
    require_export,
    verify_options,
)
from .onnx import files_of, print_files

_NEXT_STEPS = """\
Next, on a Mac:
  scripts/compile_coreml.sh {output}     compiles every package into {output}/Resources
  Drag Resources into your Xcode project (as a folder reference) and add the Swift package
  https://github.com/apple/ml-stable-diffusion; then
  {pipeline}(resourcesAt: url{controlnet}, configuration: .init())
"""


@click.command()
@click.argument("model")
@click.option("-o", "--output", type=FOLDER, required=True, help="The bundle to make.")
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
@click.option("--palettize", metavar="8|6|4|RECIPE.json", help="Bits per weight, or per layer.")
@click.option("--chunk", is_flag=True, help="Split the U-Net in two packages.")
@click.option(
    "--epsilon", is_flag=True, help="Turn a v-prediction into noise, for Apple's library."
)
@click.option("--control-scale", type=float, help="Default of run --control-scale.")
@click.option(
    "--control-invert/--no-control-invert",
    default=None,
    help="Invert control pictures first; where left out, as the ControlNet is known to need.",
)
@click.option(
    "--lora",
    "loras",
    multiple=True,
    metavar="ID|FILE[:SCALE]",
    help="An adapter (LoRA, PEFT) to fuse before the export; may be repeated.",
)
@click.option(
    "--clip-skip", type=int, metavar="N", help="Skip the last N layers of the text encoders."
)
@click.option(
    "--with-encoder", is_flag=True, help="Also export the VAE encoder, for image to image."
)
@click.option(
    "--schedulers",
    default=",".join(DEFAULT_SCHEDULERS),
    show_default=True,
    help="Schedulers to compile beside the model's own, separated by commas.",
)
@click.option("--max-steps", type=int, default=50, show_default=True, help="Sampler tables up to.")
@click.option("--no-verify", is_flag=True, help="Do not compare with diffusers.")
@model_options
@verify_options
@hub_options
@overwrite_option
@json_option
def coreml(
    model: str,
    output: Path,
    attention: str,
    slice_size: int | None,
    precision: str,
    target: str,
    compute_units: str | None,
    sizes: tuple[tuple[int, int], ...],
    guidance_batch: int | None,
    palettize: str | None,
    chunk: bool,
    epsilon: bool,
    control_scale: float | None,
    control_invert: bool | None,
    loras: tuple[str, ...],
    clip_skip: int | None,
    with_encoder: bool,
    schedulers: str,
    max_steps: int,
    no_verify: bool,
    decoder: str | None,
    base: str | None,
    config: str | None,
    variant: str | None,
    controlnet: str | None,
    verify_steps: int,
    verify_size: tuple[int, int] | None,
    revision: str | None,
    token: str | None,
    offline: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Export MODEL to Core ML packages that Apple's Swift library loads.

    MODEL is what `kdexport onnx` takes. The packages have the names, inputs and outputs of
    apple/ml-stable-diffusion. They are run here, on any system, by evaluating their programs with
    every result rounded as Apple's hardware does; on macOS by Core ML itself. Unless --no-verify is
    given, the export is compared with diffusers at the end, and kept only if every gate holds.
    """
    bits = int(palettize) if palettize is not None and palettize.isdecimal() else None
    options = CoremlOptions(
        precision=precision,
        attention=attention,
        slice_size=slice_size,
        target=target,
        compute_units=compute_units,
        sizes=sizes,
        rows=guidance_batch,
        palette=bits,
        recipe=palettize if bits is None else None,
        chunk=chunk,
        epsilon=epsilon,
        with_encoder=with_encoder,
        schedulers=tuple(name.strip() for name in schedulers.split(",") if name.strip()),
        max_steps=max_steps,
    )
    extra = ModelOptions(
        decoder=decoder,
        base=base,
        config=config,
        variant=variant,
        adapters=tuple(map(Adapter.parse, loras)),
        controlnet=controlnet,
        control_scale=control_scale,
        control_invert=control_invert,
        clip_skip=clip_skip,
    )
    size = verify_size or (None, None)
    verify = VerifyOptions(steps=min(verify_steps, max_steps), height=size[0], width=size[1])
    require_export()
    from ..core.folder import require_vacant
    from ..export.hub import HubOptions
    from ..export.load import load_checkpoint
    from .exporting import export_coreml_and_verify

    require_vacant(output, overwrite)
    with progress(quiet=as_json) as report:
        checkpoint = load_checkpoint(model, HubOptions(revision, token, offline), extra)
        exported = export_coreml_and_verify(
            checkpoint, options, output, verify, no_verify, overwrite, report
        )
    record = exported.verification.record if exported.verification else None
    if as_json:
        parity = record.to_json() if record else None
        print_json({"bundle": str(output), "files": files_of(exported.manifest), "parity": parity})
        return
    print_files(exported.manifest)
    if record:
        print_parity(record)
    _print_next_steps(output, exported.manifest)


def _print_next_steps(output: Path, manifest: Manifest) -> None:
    """What to do with the bundle here, and in Xcode."""
    control = " --control picture.png" if manifest.control else ""
    click.echo(f'Wrote {output}. Draw with: kdexport run {output} "a prompt"{control}')
    xl = manifest.family == "sdxl"
    controlnet = ', controlNet: ["ControlNet"]' if manifest.control else ""
    pipeline = "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline"
    click.echo(_NEXT_STEPS.format(output=output, pipeline=pipeline, controlnet=controlnet))
    if manifest.coreml and manifest.coreml.rows == 1 and not xl:
        click.echo("  The U-Net has one row: set guidanceScale below 1 in Apple's library.")
