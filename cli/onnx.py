"""`kdexport onnx`: a pipeline to an ONNX bundle."""

from __future__ import annotations

from dataclasses import replace

import click

from ..core.checkpoint import Checkpoint
from ..core.options import ATTENTIONS, PRECISIONS, OnnxOptions
from .export_options import ExportRequest, export_options, run_export, target_options
from .exporting import Exported, export_and_verify
from .progress import Report
from .quantization import QuantizeRequest, print_coverage, quantize_options


@click.command(short_help="Export MODEL to ONNX files that run without torch.")
@target_options
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    help=f"{', '.join(PRECISIONS)}; mixed keeps inputs, outputs and hazards in float32; bf16 is "
    "mixed with a U-Net in bfloat16.",
)
@click.option(
    "--attention",
    default="fused",
    show_default=True,
    help=f"{', '.join(ATTENTIONS)}; fused is ONNX Runtime's own, native the operator of opset 23; "
    "the others run everywhere.",
)
@click.option("--slice-size", type=int, default=1024, show_default=True, help="For sliced.")
@click.option(
    "--opset", type=int, help="ONNX opset; 23 for native, 22 for bf16, 21 for fused, else 18."
)
@click.option("--static", type=(int, int), metavar="H W", help="Fix the image size.")
@click.option("--batch", type=int, help="Fix the U-Net's rows (2 per image with guidance).")
@quantize_options
@export_options
def onnx(
    request: ExportRequest,
    precision: str,
    attention: str,
    slice_size: int,
    opset: int | None,
    static: tuple[int, int] | None,
    batch: int | None,
    quantize: QuantizeRequest | None,
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
        with_encoder=request.with_encoder,
        schedulers=request.schedulers,
        max_steps=request.max_steps,
    )

    def export(checkpoint: Checkpoint, report: Report) -> Exported:
        verify = None if request.no_verify else request.verify
        quantization = quantize.resolve(checkpoint, report) if quantize else None
        return export_and_verify(
            checkpoint,
            replace(options, quantization=quantization),
            request.output,
            verify,
            request.overwrite,
            report,
        )

    manifest = run_export(request, export)
    if manifest is not None:
        print_coverage(request.output, manifest)
