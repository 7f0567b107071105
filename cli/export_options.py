"""What the exporting commands have in common: the model, what is done to it, and the report."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.adapters import Adapter
from ..core.checkpoint import Checkpoint
from ..core.folder import megabytes
from ..core.manifest import Component, Manifest
from ..core.options import DEFAULT_SCHEDULERS, ModelOptions, VerifyOptions
from .common import (
    FOLDER,
    F,
    hub_options,
    json_option,
    model_options,
    overwrite_option,
    print_json,
    print_parity,
    print_table,
    require_export,
    verify_options,
)
from .completion import complete_model
from .progress import Report, progress

if TYPE_CHECKING:
    from ..export.hub import HubOptions
    from .exporting import Exported


@dataclass(frozen=True)
class ExportRequest:
    """What every exporting command is told, beside the options of its format.

    Attributes:
        model: What to export.
        output: The bundle to make.
        extra: What is added to the model, or replaced in it.
        revision: Branch, tag or commit of the Hub repository.
        token: Access token of the Hub.
        offline: Use only what the Hub's cache holds.
        with_encoder: Also export the VAE encoder.
        schedulers: Schedulers to compile beside the model's own.
        max_steps: Largest number of steps to compile tables for.
        verify: What the export is compared on.
        no_verify: Do not compare it.
        overwrite: Replace an existing output.
        as_json: Print the result as JSON.
    """

    model: str
    output: Path
    extra: ModelOptions
    revision: str | None
    token: str | None
    offline: bool
    with_encoder: bool
    schedulers: tuple[str, ...]
    max_steps: int
    verify: VerifyOptions
    no_verify: bool
    overwrite: bool
    as_json: bool

    def hub(self) -> HubOptions:
        """How the Hub is reached."""
        from ..export.hub import HubOptions

        return HubOptions(self.revision, self.token, self.offline)


def export_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds `MODEL -o DIR` and the shared options, which become the argument `request`."""

    @functools.wraps(command)
    def with_request(**given: Any) -> None:
        shared = {name: given.pop(name) for name in _SHARED}
        command(_request(**shared), **given)

    wrapped: Callable[..., None] = with_request
    for option in (
        json_option,
        overwrite_option,
        hub_options,
        verify_options,
        model_options,
        click.option("--no-verify", is_flag=True, help="Do not compare with diffusers."),
        click.option(
            "--max-steps", type=int, default=50, show_default=True, help="Sampler tables up to."
        ),
        click.option(
            "--schedulers",
            default=",".join(DEFAULT_SCHEDULERS),
            show_default=True,
            help="Schedulers to compile beside the model's own, separated by commas.",
        ),
        click.option(
            "--with-encoder", is_flag=True, help="Also export the VAE encoder, for image to image."
        ),
        fused_options,
    ):
        wrapped = option(wrapped)
    return wrapped


def fused_options(command: F) -> F:
    """Adds what is done to a model before anything else: adapters, clip-skip, its ControlNet."""
    for option in (
        click.option(
            "--clip-skip",
            type=int,
            metavar="N",
            help="Skip the last N layers of the text encoders.",
        ),
        click.option(
            "--lora",
            "loras",
            multiple=True,
            metavar="ID|FILE[:SCALE]",
            help="An adapter (LoRA, PEFT) to fuse before the export; may be repeated.",
        ),
        click.option(
            "--control-invert/--no-control-invert",
            default=None,
            help="Invert control pictures first; where left out, as the ControlNet is known to "
            "need.",
        ),
        click.option("--control-scale", type=float, help="Default of run --control-scale."),
    ):
        command = option(command)
    return command


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds `MODEL` and `-o DIR`, which come before the options of a format."""
    output = click.option("-o", "--output", type=FOLDER, required=True, help="The bundle to make.")
    return click.argument("model", shell_complete=complete_model)(output(command))


def run_export(
    request: ExportRequest,
    export: Callable[[Checkpoint, Report], Exported],
    standing: Callable[[Checkpoint], Manifest | None] | None = None,
) -> Manifest | None:
    """Loads the model, exports it and prints what came of it.

    Args:
        request: What the user asked for.
        export: Makes the bundle and verifies it.
        standing: Finds an output that is already what was asked for; nothing is done then.

    Returns:
        The manifest of the bundle; None where the result was printed as JSON.
    """
    require_export()
    from ..core.folder import require_vacant
    from ..export.load import load_checkpoint
    from .exporting import Exported

    if standing is None:
        require_vacant(request.output, request.overwrite)
    with progress(quiet=request.as_json) as report:
        checkpoint = load_checkpoint(request.model, request.hub(), request.extra)
        kept = standing(checkpoint) if standing else None
        if kept is not None:
            exported = Exported(request.output, kept, None)
        else:
            exported = export(checkpoint, report)
    record = exported.verification.record if exported.verification else None
    parity = record.to_json() if record else kept.parity if kept else None
    if request.as_json:
        print_exported(request.output, exported.manifest, parity, kept is not None)
        return None
    if kept is not None:
        click.echo(f"{request.output} was made from this request and is whole; nothing to do.")
        return kept
    print_files(exported.manifest)
    if record:
        print_parity(record)
    control = " --control picture.png" if exported.manifest.control else ""
    output = request.output
    click.echo(f'Wrote {output}. Draw with: kdexport run {output} "a prompt"{control}')
    return exported.manifest


def print_exported(
    output: Path, manifest: Manifest, parity: Mapping[str, Any] | None, kept: bool = False
) -> None:
    """Prints a bundle as JSON.

    Args:
        output: The bundle.
        manifest: Its manifest.
        parity: What its verification found, or None.
        kept: Whether it was there already.
    """
    files = {each.path: each.bytes for each in manifest.files}
    print_json({"bundle": str(output), "files": files, "parity": parity, "kept": kept})


def print_files(manifest: Manifest) -> None:
    """Prints the components of a bundle with their sizes and the formats of their weights."""
    rows = [
        [
            component.role,
            component.precision,
            f"{component.parameters:,}",
            megabytes(manifest.bytes_of(component)),
            f"{sum(component.operators.values()):,}" if component.operators else "",
            _formats(component),
        ]
        for component in manifest.components
    ]
    columns = [
        "component",
        "precision",
        ">parameters",
        ">size",
        ">operators",
        "weights of few bits",
    ]
    if not any(component.compression for component in manifest.components):
        rows, columns = [row[:-1] for row in rows], columns[:-1]
    print_table(f"{manifest.source.model} as {manifest.backend}", columns, rows)


def _formats(component: Component) -> str:
    """How many weights have which format, and of ONNX files the share that they are."""
    compression = component.compression or {}
    text = ", ".join(f"{count} {name}" for name, count in component.formats.items())
    if "layers" not in compression:
        return text
    layers, macs = compression["layers"], compression["macs"]
    return f"{text}: {layers['quantized']} of {layers['all']} layers, {macs:.0%} of their MACs"


_SHARED = (
    *("model", "output", "control_scale", "control_invert", "loras", "clip_skip", "with_encoder"),
    *("schedulers", "max_steps", "no_verify", "decoder", "base", "config", "variant"),
    *("controlnet", "verify_steps", "verify_size", "revision", "token", "offline", "overwrite"),
    "as_json",
)


def extra_options(
    decoder: str | None,
    base: str | None,
    config: str | None,
    variant: str | None,
    controlnet: str | None,
    loras: tuple[str, ...],
    control_scale: float | None,
    control_invert: bool | None,
    clip_skip: int | None,
) -> ModelOptions:
    """What is added to a model, or replaced in it, from what `fused_options` and others give."""
    return ModelOptions(
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


def _request(
    model: str,
    output: Path,
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
) -> ExportRequest:
    height, width = verify_size or (None, None)
    steps = max(1, min(verify_steps, max_steps))
    return ExportRequest(
        model=model,
        output=output,
        extra=extra_options(
            decoder,
            base,
            config,
            variant,
            controlnet,
            loras,
            control_scale,
            control_invert,
            clip_skip,
        ),
        revision=revision,
        token=token,
        offline=offline,
        with_encoder=with_encoder,
        schedulers=tuple(name.strip() for name in schedulers.split(",") if name.strip()),
        max_steps=max_steps,
        verify=VerifyOptions(steps=steps, height=height, width=width),
        no_verify=no_verify,
        overwrite=overwrite,
        as_json=as_json,
    )
