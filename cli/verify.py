"""`kdexport verify`: does a bundle draw what diffusers draws?"""

from __future__ import annotations

from pathlib import Path

import click

from ..core.errors import OptionError
from ..core.folder import is_downloaded, require_vacant
from ..core.junit import remove_junit, write_junit
from ..core.manifest import MANIFEST_NAME, check_files, load_manifest
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
from .verifying import load_reference, machine, require_no_bundle
from .world import captions_to_draw, print_quality, with_quality


@click.command(short_help="Compare BUNDLE with diffusers, in figures and pictures.")
@click.argument("bundle")
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    metavar="DIR",
    help="Where to write parity.json and report.html, in the place of the bundle.",
)
@click.option(
    "--junit",
    type=FOLDER,
    metavar="FILE",
    help="Also write the gates as tests in JUnit XML, which continuous integration reads.",
)
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
    bundle: str,
    output: Path | None,
    junit: Path | None,
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

    Writes parity.json and report.html, a page with pictures and figures, into the bundle, whose
    model card says the same. Exits with status 3 where a gate fails.

    BUNDLE may be the Hub id of a repository that holds a bundle; then --output is needed, and
    --revision is that of the bundle, else of the reference.
    """
    if junit is not None:
        # Before minutes of comparing, not after; and before anything that may fail.
        remove_junit(junit)
    height, width = size or (None, None)
    options = VerifyOptions(
        steps=steps,
        prompts=prompts or VerifyOptions().prompts,
        seed=seed,
        height=height,
        width=width,
        guidance=guidance,
    )
    from ..runtimes.hub import find_bundle, is_on_hub

    if output is not None:
        require_vacant(output, overwrite=True)
        require_no_bundle(output)
    on_hub = is_on_hub(bundle)
    if on_hub and output is None:
        raise _nowhere_to_write(bundle)
    own = revision if on_hub else None
    folder = find_bundle(bundle, revision=own, token=token, offline=offline)
    manifest = load_manifest(folder)
    # The files of the Hub's cache are links; what they lead to has the hash for its name. Those of
    # kdexport's own are hard links to the same.
    linked = (folder / MANIFEST_NAME).is_symlink() or is_downloaded(folder)
    if output is None and linked:
        raise _nowhere_to_write(bundle)
    require_export()
    from ..runtimes.verify import verify_bundle
    from .exporting import require_parity, save_verification

    with progress(quiet=as_json) as report:
        report("checking files", 0.0)
        check_files(manifest, folder)
        wanted = None if on_hub else revision
        checkpoint = load_reference(
            manifest, against, revision=wanted, token=token, offline=offline
        )
        captions = captions_to_draw(checkpoint, captions, manifest.backend)
        verification = verify_bundle(
            folder, checkpoint, options, report, runtime=runtime, provider=provider
        )
        if captions:
            ran = verification.record.runtime
            verification, _ = with_quality(
                verification,
                folder,
                checkpoint,
                captions,
                report,
                runtime=ran["engine"],
                provider=ran["provider"],
            )
    save_verification(verification, folder, output)
    record = verification.record
    if junit is not None:
        write_junit(record, folder.absolute().name, machine(), junit)
    if as_json:
        print_json(record.to_json())
    else:
        print_parity(record)
        if "tensorrt" in record.runtime:
            say_not_executed(manifest)
        if record.quality:
            print_quality(record.quality)
    require_parity(record, "the bundle does not draw what the reference draws")


def _nowhere_to_write(bundle: str) -> OptionError:
    return OptionError(
        f"'{bundle}' lies in a cache of downloads, which is not written to; name a folder for "
        "parity.json and report.html with --output."
    )
