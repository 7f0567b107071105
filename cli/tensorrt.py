"""`kdexport tensorrt`: a pipeline to the engines of a server."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from ..core.checkpoint import Checkpoint
from ..core.engines import ENGINES
from ..core.errors import BundleError, OptionError
from ..core.manifest import MANIFEST_NAME, Manifest
from ..core.tensorrt_options import (
    DEFAULT_GPUS,
    TENSORRT_ATTENTIONS,
    TENSORRT_PRECISIONS,
    TensorrtOptions,
)
from ..core.weight_files import PICKLES, SAFETENSORS
from .common import require_export
from .engines import print_engines, say_not_executed
from .export_options import (
    ExportRequest,
    export_options,
    print_exported,
    print_files,
    run_export,
    target_options,
)
from .exporting import Exported
from .exporting_tensorrt import (
    digest_of,
    engines_of_bundle,
    export_tensorrt_and_verify,
    unchanged,
)
from .progress import Report, progress
from .quantization import QuantizeRequest, quantize_options

# What may be said about engines that are built from a bundle; all else is about its ONNX files,
# how they are exported and compared.
_OF_BUNDLES = frozenset(
    {
        *("model", "output", "overwrite", "as_json", "no_verify", "token", "offline"),
        *("gpus", "engine", "profile", "timing_cache", "compatibility", "level"),
    }
)


@click.command(short_help="Export MODEL to TensorRT engines, built without a GPU.")
@target_options
@click.option(
    "--gpu",
    "gpus",
    multiple=True,
    help="A name such as 4090 or L40S, a compute capability such as sm_89, or `this`, the GPU of "
    "this machine; may be repeated. Left out: 4090, and with --engine native `this`.",
)
@click.option(
    "--engine",
    default="rtx",
    show_default=True,
    help=f"{', '.join(ENGINES)}: TensorRT for RTX, built on any machine, or TensorRT itself, on "
    "the GPU that it is for.",
)
@click.option("--precision", default="fp16", show_default=True, help=", ".join(TENSORRT_PRECISIONS))
@click.option(
    "--attention",
    default="portable",
    show_default=True,
    help=f"{', '.join(TENSORRT_ATTENTIONS)}: MatMul and Softmax, or the operator of opset 23.",
)
@click.option(
    "--profile",
    "profile",
    multiple=True,
    metavar="NAME=MIN,OPT,MAX",
    help="What engines take of batch (images), height or width (pixels); one number fixes it. "
    "Left out: one image of the model's default size.",
)
@click.option(
    "--timing-cache",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the timings of earlier builds, of native engines.",
)
@click.option(
    "--compatibility",
    default="none",
    show_default=True,
    help="none, ampere-plus, same-capability: other GPUs that a native engine runs on.",
)
@click.option("--level", type=int, help="Optimization level of native builds, 0 to 5.")
@quantize_options
@export_options
def tensorrt(
    request: ExportRequest,
    gpus: tuple[str, ...],
    engine: str,
    precision: str,
    attention: str,
    profile: tuple[str, ...],
    timing_cache: Path | None,
    compatibility: str,
    level: int | None,
    quantize: QuantizeRequest | None,
) -> None:
    """Export MODEL to TensorRT engines, beside the ONNX files that they are built from.

    MODEL is what `kdexport onnx` takes, or an ONNX bundle of kdexport. Engines of TensorRT for
    RTX are built ahead of time on the CPU. The ONNX files are compared with diffusers unless
    --no-verify is given; where there is no GPU, the engines are built but not executed. A bundle
    that was made from the same request is left as it is.
    """
    options = TensorrtOptions(
        gpus=gpus or DEFAULT_GPUS.get(engine, ()),
        engine=engine,
        precision=precision,
        attention=attention,
        profile=profile,
        with_encoder=request.with_encoder,
        schedulers=request.schedulers,
        max_steps=request.max_steps,
        timing_cache=timing_cache,
        compatibility=compatibility,
        level=level,
    )
    if (Path(request.model) / MANIFEST_NAME).is_file():
        _run_on_bundle(request, options)
        return
    _require_own_onnx(Path(request.model))

    def export(checkpoint: Checkpoint, report: Report) -> Exported:
        return export_tensorrt_and_verify(
            checkpoint,
            options,
            request.output,
            None if request.no_verify else request.verify,
            request.overwrite,
            report,
            quantize,
        )

    def standing(checkpoint: Checkpoint) -> Manifest | None:
        verify = None if request.no_verify else request.verify
        return unchanged(request.output, digest_of(checkpoint, options, verify, quantize))

    manifest = run_export(request, export, standing)
    if manifest is not None:
        print_engines(manifest)
        if not request.no_verify:
            say_not_executed(manifest)


def _require_own_onnx(folder: Path) -> None:
    """Raises `BundleError` where a folder has ONNX files instead of weights, but no manifest."""
    models = sorted(folder.glob("*.onnx")) + sorted(folder.glob("*/*.onnx"))
    weights = [each for suffix in (SAFETENSORS, *PICKLES) for each in folder.glob(f"*/*{suffix}")]
    if models and not weights:
        raise BundleError(
            f"'{models[0]}' is of another exporter: '{folder}' has no {MANIFEST_NAME}, which says "
            "what a run needs; export the model with `kdexport onnx --attention portable`, or name "
            "the model itself."
        )


def _run_on_bundle(request: ExportRequest, options: TensorrtOptions) -> None:
    """Builds engines for a bundle, whose ONNX files are as they are."""
    _require_none_of_the_model(request.model)
    require_export()
    with progress(quiet=request.as_json) as report:
        manifest = engines_of_bundle(
            Path(request.model), options, request.output, request.overwrite, report
        )
    if request.as_json:
        print_exported(request.output, manifest, manifest.parity)
        return
    print_files(manifest)
    print_engines(manifest)
    if manifest.parity is not None:
        say_not_executed(manifest)


def _require_none_of_the_model(bundle: str) -> None:
    """Raises `OptionError` where an option was given that a bundle cannot follow."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in _OF_BUNDLES:
            raise OptionError(
                f"'{bundle}' is a bundle, whose model cannot be changed; leave out "
                f"{parameter.opts[0]}, or name the model itself."
            )
