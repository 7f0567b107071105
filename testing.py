"""For tests of your own: a bundle must draw what its model draws in diffusers.

    from kdexport.testing import assert_parity

    def test_the_export():
        assert_parity("out/bundle")

It needs what an export needs, `pip install 'kdexport[export,cpu]'`; importing it loads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .core.parity import ParityRecord

__all__ = ["assert_parity"]


def assert_parity(
    bundle: Path | str,
    against: str | None = None,
    *,
    steps: int = 4,
    size: tuple[int, int] | None = None,
    prompts: str | Sequence[str] | None = None,
    runtime: str | None = None,
    provider: str | None = None,
    report: Path | str | None = None,
) -> ParityRecord:
    """Compares a bundle with diffusers by component, by step and by image, as `kdexport verify`.

    The bundle is left as it is.

    Args:
        bundle: A folder, or `owner/name` of a repository of the Hugging Face Hub.
        against: The reference: a diffusers folder, a Hub id, …; None takes what the bundle was
            made of.
        steps: Denoising steps.
        size: Height and width of the images in pixels; None takes the bundle's default.
        prompts: Prompts to compare, a run each; None takes one of kdexport's own.
        runtime: What runs the bundle, as `kdexport verify --runtime` has it; None takes its own.
        provider: What that runs on; None as in `Pipeline.load`.
        report: A folder for `parity.json` and `report.html`, not that of a bundle, written before
            anything is raised; None writes nothing.

    Returns:
        Every figure and verdict.

    Raises:
        AssertionError: A gate failed; the message says of each what was found and needed.
        KdexportError: The bundle or the reference cannot be run at all.
    """
    # pytest then shows the line of the test, not one of this function.
    __tracebackhide__ = True
    from .cli.common import require_export
    from .cli.verifying import load_reference, require_no_bundle
    from .core.manifest import check_files, load_manifest
    from .core.options import VerifyOptions
    from .runtimes.hub import find_bundle

    height, width = size or (None, None)
    if prompts is None:
        prompts = VerifyOptions().prompts
    wanted = (prompts,) if isinstance(prompts, str) else tuple(prompts)
    options = VerifyOptions(steps=steps, prompts=wanted, height=height, width=width)
    folder = find_bundle(bundle)
    manifest = load_manifest(folder)
    if report is not None:
        require_no_bundle(Path(report))
    require_export()
    from .cli.exporting import save_verification
    from .runtimes.verify import verify_bundle

    check_files(manifest, folder)
    checkpoint = load_reference(manifest, against)
    verification = verify_bundle(
        folder, checkpoint, options, lambda what, share: None, runtime=runtime, provider=provider
    )
    record = verification.record
    if report is not None:
        save_verification(verification, folder, Path(report))
    failures = record.failures()
    if failures:
        count = f"{len(failures)} of {len(record.verdicts)} parity gates failed"
        raise AssertionError("\n  ".join([f"{count} for '{bundle}':", *failures]))
    return record
