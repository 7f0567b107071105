"""`kdexport inspect`: what a model or a bundle consists of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.checkpoint import Checkpoint
from ..core.errors import BundleError, DependencyError, OptionError, listing
from ..core.folder import megabytes
from ..core.manifest import (
    MANIFEST_NAME,
    Component,
    ControlRecord,
    Manifest,
    Shapes,
    TensorSpec,
    check_files,
    load_manifest,
)
from ..core.options import ModelOptions
from .common import (
    hub_options,
    json_option,
    model_options,
    print_json,
    print_table,
    require_export,
)
from .completion import complete_model
from .engines import print_engines
from .planning import print_plans
from .progress import Report, progress

if TYPE_CHECKING:
    from ..export.plan.types import Plan
    from ..export.summary import Summary


@click.command(short_help="Show what a model or bundle consists of, or plan an export.")
@click.argument("target", metavar="MODEL|BUNDLE", shell_complete=complete_model)
@click.option("--size", type=(int, int), metavar="H W", help="Image size to count MACs at.")
@click.option(
    "--plan",
    is_flag=True,
    help="Also show what each export would write, take and lack here, at that size.",
)
@model_options
@hub_options
@json_option
def inspect(
    target: str,
    size: tuple[int, int] | None,
    plan: bool,
    decoder: str | None,
    base: str | None,
    config: str | None,
    variant: str | None,
    controlnet: str | None,
    revision: str | None,
    token: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Show what a model or a bundle consists of.

    Of a model: components, parameters, multiply-accumulates, sizes, and what a run does by default;
    with --plan also what each export would write, how long it would take, how much memory, and why
    it would fail here. Of a bundle, whose files are compared with their hashes: components, inputs
    and outputs, samplers, parity; it takes no option that says what a model consists of, no --size
    and no --plan.
    """
    of_models = {
        "--size": size,
        "--plan": plan or None,
        "--decoder": decoder,
        "--base": base,
        "--config": config,
        "--variant": variant,
        "--controlnet": controlnet,
    }
    given = [name for name, value in of_models.items() if value is not None]
    folder = _bundle_folder(target, given, revision, token, offline)
    if isinstance(folder, Path):
        _inspect_bundle(folder, as_json)
        return
    _require_export(folder)
    from ..export.hub import HubOptions
    from ..export.load import load_checkpoint
    from ..export.summary import summarize_checkpoint

    extra = ModelOptions(
        decoder=decoder, base=base, config=config, variant=variant, controlnet=controlnet
    )
    with progress(quiet=as_json) as report:
        report("reading the model", 0.0)
        checkpoint = load_checkpoint(target, HubOptions(revision, token, offline), extra)
        report("counting", 0.0)
        summary = summarize_checkpoint(checkpoint, size)
        given = _given(extra, revision)
        plans = _plans(checkpoint, summary, given, report) if plan else ()
    if as_json:
        planned = {"plans": [each.to_json() for each in plans]} if plan else {}
        print_json({**summary.to_json(), **planned})
        return
    rows = [
        [
            part.role,
            part.class_name,
            f"{part.parameters:,}",
            f"{part.macs:,}",
            megabytes(part.parameters * 4),
            megabytes(part.parameters * 2),
        ]
        for part in summary.parts
    ]
    title = f"{target}: {summary.pipeline_class} at {summary.height}x{summary.width}"
    print_table(title, ["component", "class", ">parameters", ">MACs", ">fp32", ">fp16"], rows)
    rows = [[key, str(value)] for key, value in summary.facts().items()]
    print_table("A run", ["what", "value"], rows)
    print_plans(plans)


def _given(extra: ModelOptions, revision: str | None) -> list[str]:
    """The options that say what the model is, for a command that exports it."""
    names = ("decoder", "base", "config", "variant", "controlnet")
    values = {name: getattr(extra, name) for name in names} | {"revision": revision}
    return [word for name, value in values.items() if value for word in (f"--{name}", value)]


def _plans(
    checkpoint: Checkpoint, summary: Summary, given: Sequence[str], report: Report
) -> Sequence[Plan]:
    from ..export.plan.machine import this_machine
    from ..export.plan.make import PLANNERS, make_plan

    machine = this_machine(Path.cwd())
    plans = []
    for backend in PLANNERS:
        report(f"planning {backend}", 0.0)
        plans.append(make_plan(backend, checkpoint, summary, machine, given))
    return plans


def _bundle_folder(
    target: str, given: Sequence[str], revision: str | None, token: str | None, offline: bool
) -> Path | BundleError | None:
    """The folder of a bundle, here or on the Hub.

    Args:
        target: A bundle or a model.
        given: The options that were given and are of models only.
        revision: Branch, tag or commit of the repository, or None.
        token: Access token of the Hub, or None.
        offline: Use only what the Hub's cache holds.

    Returns:
        The folder; None where a model is named; where nobody can tell, the error of asking.

    Raises:
        OptionError: An option of models, or a revision of a folder.
        BundleError: The bundle cannot be downloaded.
    """
    from ..runtimes.hub import fetch_manifest, find_bundle, is_on_hub

    if (Path(target) / MANIFEST_NAME).is_file():
        _refuse(given, target)
        return find_bundle(target, revision=revision)
    if not is_on_hub(target):
        return None
    try:
        snapshot = fetch_manifest(target, revision=revision, token=token, offline=offline)
    except BundleError as error:
        # A model may still be in the cache, whose manifest nobody asked for; its reader says what
        # is wrong.
        return error
    if snapshot is None:
        return None
    _refuse(given, target)
    return find_bundle(target, revision=snapshot.name, token=token, offline=offline)


def _refuse(given: Sequence[str], bundle: str) -> None:
    """Raises `OptionError` where options of models were given with a bundle."""
    if given:
        one = len(given) == 1
        raise OptionError(
            f"{listing(given)} {'is' if one else 'are'} of models, and '{bundle}' is a bundle; "
            f"leave {'it' if one else 'them'} out."
        )


def _require_export(unreached: BundleError | None) -> None:
    """As `require_export`; a Hub that did not answer goes before packages that are missing."""
    try:
        require_export()
    except DependencyError:
        if unreached is None:
            raise
        # With the packages the reader of models would say the same.
        raise unreached from unreached.__cause__


def _inspect_bundle(bundle: Path, as_json: bool) -> None:
    manifest = load_manifest(bundle)
    with progress(quiet=as_json) as report:
        report("checking files", 0.0)
        check_files(manifest, bundle)
    if as_json:
        print_json(_bundle_json(manifest))
        return
    from .export_options import print_files

    print_files(manifest)
    rows = [
        [component.role, kind, spec.name, spec.dtype, _shape(spec)]
        for component in manifest.components
        for kind, specs in (("in", component.inputs), ("out", component.outputs))
        for spec in specs
        if not spec.name.startswith("hidden_states.")
    ]
    print_table("Inputs and outputs", ["component", "", "name", "dtype", "shape"], rows)
    if manifest.engines:
        print_engines(manifest)
    rows = [[key, str(value)] for key, value in _facts(manifest).items()]
    print_table("Bundle (all files match their SHA-256)", ["what", "value"], rows)


def _facts(manifest: Manifest) -> dict[str, Any]:
    defaults, shapes = manifest.defaults, manifest.shapes
    parity = manifest.parity
    verdict = "not verified" if parity is None else "passed" if parity["passed"] else "FAILED"
    samplers = [
        f"{record.name} ({record.scheduler}, {record.steps[0]} to {record.steps[-1]} steps)"
        for record in manifest.samplers
    ]
    from_picture = [record.name for record in manifest.samplers if record.image is not None]
    return {
        "source": manifest.source.model,
        "adapters": "\n".join(
            f"{each.model} at {each.scale:g}" for each in manifest.source.adapters
        )
        or "none",
        "random weights": "yes" if manifest.source.random_weights else "no",
        "made with": ", ".join(f"{name} {version}" for name, version in manifest.tools.items()),
        "default size": f"{defaults.height}x{defaults.width}",
        "sizes": _sizes(shapes),
        "steps, guidance": f"{defaults.steps}, {defaults.guidance:g}",
        **({"control": _control(manifest.control)} if manifest.control else {}),
        **({"Core ML": _coreml(manifest)} if manifest.coreml else {}),
        "guidance": "an embedding of the scale"
        if manifest.guidance_embedding
        else "two U-Net rows per image above 1",
        "clip-skip": manifest.source.clip_skip or "none",
        "samplers": "\n".join(samplers),
        "image to image": ", ".join(from_picture) or "no (export with --with-encoder)",
        "parity": verdict,
        "size": megabytes(sum(record.bytes for record in manifest.files)),
    }


def _sizes(shapes: Shapes) -> str:
    only = [(shapes.height, shapes.width)] if shapes.height else shapes.sizes
    if only:
        return ", ".join(f"{height}x{width}" for height, width in only) + " only"
    return f"multiples of {shapes.multiple}"


def _coreml(manifest: Manifest) -> str:
    record = manifest.coreml
    assert record is not None
    islands = [f"{len(each.islands)} of the {each.role}" for each in manifest.components]
    stored = [_formats(each) for each in manifest.components if each.compression]
    return "\n".join(
        [
            f"{record.target}, attention {record.attention}, for {record.compute_units}, "
            f"U-Net rows {record.rows}",
            f"operations in float32: {', '.join(islands)}",
            f"weights: {'; '.join(stored) or manifest.components[0].precision}",
        ]
    )


def _formats(component: Component) -> str:
    """In how many weights of a component each format is."""
    counts = ", ".join(f"{count} {name}" for name, count in component.formats.items())
    return f"{component.role} {counts}"


def _control(control: ControlRecord) -> str:
    inverted = ", pictures inverted first" if control.invert else ""
    return f"ControlNet, default scale {control.scale:g}{inverted}"


def _bundle_json(manifest: Manifest) -> dict[str, Any]:
    from ..core.records import encode

    data: dict[str, Any] = encode(manifest)
    return data


def _shape(spec: TensorSpec) -> str:
    return f"({', '.join(str(size) for size in spec.shape)})"
