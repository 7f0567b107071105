"""`kdexport onnx`: a pipeline to an ONNX bundle."""

from __future__ import annotations

from pathlib import Path

import click

from ..core.adapters import Adapter
from ..core.manifest import Manifest
from ..core.options import (
    ATTENTIONS,
    DEFAULT_SCHEDULERS,
    PRECISIONS,
    ModelOptions,
    OnnxOptions,
    VerifyOptions,
)
from .common import (
    FOLDER,
    hub_options,
    json_option,
    megabytes,
    model_options,
    overwrite_option,
    print_json,
    print_parity,
    print_table,
    progress,
    require_export,
    verify_options,
)


@click.command()
@click.argument("model")
@click.option("-o", "--output", type=FOLDER, required=True, help="The bundle to make.")
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    help=f"{', '.join(PRECISIONS)}; mixed keeps inputs, outputs and hazards in float32.",
)
@click.option(
    "--attention",
    default="fused",
    show_default=True,
    help=f"{', '.join(ATTENTIONS)}; fused is ONNX Runtime's own, the others run everywhere.",
)
@click.option("--slice-size", type=int, default=1024, show_default=True, help="For sliced.")
@click.option("--opset", type=int, help="ONNX opset; 21 for fused, else 18.")
@click.option("--static", type=(int, int), metavar="H W", help="Fix the image size.")
@click.option("--batch", type=int, help="Fix the U-Net's rows (2 per image with guidance).")
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
def onnx(
    model: str,
    output: Path,
    precision: str,
    attention: str,
    slice_size: int,
    opset: int | None,
    static: tuple[int, int] | None,
    batch: int | None,
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
    """Export MODEL to a folder of ONNX files that runs without torch.

    MODEL is a Hub id, a diffusers folder, zoo:NAME, or demo, the trained model in the box; with
    --base also a folder or Hub id with a U-Net only; with --config a single-file checkpoint. The
    bundle also loads in optimum's ONNX pipelines. Unless --no-verify is given, the export is
    compared with diffusers at the end, and kept only if every gate holds.
    """
    height, width = static or (None, None)
    options = OnnxOptions(
        precision=precision,
        attention=attention,
        slice_size=slice_size,
        opset=opset,
        height=height,
        width=width,
        batch=batch,
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
    from .exporting import export_and_verify

    require_vacant(output, overwrite)
    with progress(quiet=as_json) as report:
        checkpoint = load_checkpoint(model, HubOptions(revision, token, offline), extra)
        exported = export_and_verify(
            checkpoint, options, output, None if no_verify else verify, overwrite, report
        )
    record = exported.verification.record if exported.verification else None
    if as_json:
        parity = record.to_json() if record else None
        print_json({"bundle": str(output), "files": files_of(exported.manifest), "parity": parity})
        return
    print_files(exported.manifest)
    if record:
        print_parity(record)
    control = " --control picture.png" if exported.manifest.control else ""
    click.echo(f'Wrote {output}. Draw with: kdexport run {output} "a prompt"{control}')


def print_files(manifest: Manifest) -> None:
    """Prints the components of a bundle with their sizes."""
    rows = [
        [
            component.role,
            component.precision,
            f"{component.parameters:,}",
            megabytes(manifest.bytes_of(component)),
        ]
        for component in manifest.components
    ]
    columns = ["component", "precision", ">parameters", ">size"]
    print_table(f"{manifest.source.model} as {manifest.backend}", columns, rows)


def files_of(manifest: Manifest) -> dict[str, int]:
    """Bytes of every file of a bundle, by path."""
    return {record.path: record.bytes for record in manifest.files}
