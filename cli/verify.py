"""`kdexport verify`: does a bundle draw what diffusers draws?"""

from __future__ import annotations

from pathlib import Path

import click

from ..core.checkpoint import Checkpoint
from ..core.errors import BundleError
from ..core.manifest import Manifest, check_files, load_manifest
from ..core.options import VerifyOptions
from .common import (
    FOLDER,
    hub_options,
    json_option,
    print_json,
    print_parity,
    provider_option,
    require_export,
    runtime_option,
)
from .engines import say_not_executed
from .progress import progress
from .source import source_options
from .world import captions_to_draw, print_quality, with_quality


@click.command(short_help="Compare BUNDLE with diffusers, in figures and pictures.")
@click.argument("bundle", type=FOLDER)
@click.option("--against", metavar="MODEL", help="The reference; else what the bundle was made of.")
@click.option("--steps", type=int, default=4, show_default=True, help="Denoising steps.")
@click.option("--prompt", "prompts", multiple=True, help="A prompt to compare; may be repeated.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the noise.")
@click.option("--guidance", type=float, help="Guidance scale.")
@click.option("--size", type=(int, int), metavar="H W", help="Image size in pixels.")
@click.option(
    "--captions",
    type=click.IntRange(min=0),
    help="Held-out captions to draw and score; for the demo model, 64 if left out, 16 of Core ML.",
)
@hub_options
@runtime_option
@provider_option
@json_option
def verify(
    bundle: Path,
    against: str | None,
    steps: int,
    prompts: tuple[str, ...],
    seed: int,
    guidance: float | None,
    size: tuple[int, int] | None,
    captions: int | None,
    revision: str | None,
    token: str | None,
    offline: bool,
    runtime: str | None,
    provider: str | None,
    as_json: bool,
) -> None:
    """Compare BUNDLE with diffusers by component, by step and by image.

    A bundle of the demo model also draws captions that training never saw, and its pictures are
    scored: colour, shape, count, position.

    Writes parity.json and report.html, a page with pictures and figures, into the bundle. Exits
    with status 3 where a gate fails.
    """
    height, width = size or (None, None)
    options = VerifyOptions(
        steps=steps,
        prompts=prompts or VerifyOptions().prompts,
        seed=seed,
        height=height,
        width=width,
        guidance=guidance,
    )
    manifest = load_manifest(bundle)
    require_export()
    from ..export.hub import HubOptions
    from ..export.load import load_checkpoint
    from ..runtimes.verify import verify_bundle
    from .exporting import require_parity, save_verification

    with progress(quiet=as_json) as report:
        report("checking files", 0.0)
        check_files(manifest, bundle)
        hub = HubOptions(revision or manifest.source.revision, token, offline)
        model = against or manifest.source.model
        checkpoint = load_checkpoint(model, hub, source_options(manifest, against))
        if against is None:
            _require_same_weights(manifest, checkpoint)
        captions = captions_to_draw(checkpoint, captions, manifest.backend)
        verification = verify_bundle(
            bundle, checkpoint, options, report, runtime=runtime, provider=provider
        )
        if captions:
            ran = verification.record.runtime
            verification, _ = with_quality(
                verification,
                bundle,
                checkpoint,
                captions,
                report,
                runtime=ran["engine"],
                provider=ran["provider"],
            )
    save_verification(verification, bundle)
    record = verification.record
    if as_json:
        print_json(record.to_json())
    else:
        print_parity(record)
        if "tensorrt" in record.runtime:
            say_not_executed(manifest)
        if record.quality:
            print_quality(record.quality)
    require_parity(record, "the bundle does not draw what the reference draws")


def _require_same_weights(manifest: Manifest, checkpoint: Checkpoint) -> None:
    from ..export.weights import weight_hashes

    if weight_hashes(checkpoint) != dict(manifest.source.weights_sha256):
        raise BundleError(
            f"'{checkpoint.model}' now has other weights than the bundle was made of; export "
            "again, or name the reference with --against."
        )
