"""From the options of `kdexport bench` to what is drawn and who draws it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import OptionError
from ..core.manifest import load_manifest
from .common import require_export
from .verifying import load_source

if TYPE_CHECKING:
    from ..runtimes.bench.contestant import Contestant
    from ..runtimes.bench.options import Drawing


def find_bundles(
    bundles: Sequence[str], revision: str | None, token: str | None, offline: bool
) -> tuple[list[Path], str | None]:
    """The folders of bundles, and the revision that is left for the model they were made of.

    A revision is that of the repositories of the Hub among them, where there are any.

    Raises what `find_bundle` does.
    """
    from ..runtimes.hub import find_bundle, is_on_hub

    wanted = [revision if is_on_hub(each) else None for each in bundles]
    folders = [
        find_bundle(each, revision=own, token=token, offline=offline)
        for each, own in zip(bundles, wanted, strict=True)
    ]
    return folders, None if any(map(is_on_hub, bundles)) else revision


def resolve_drawing(
    bundle: Path,
    prompt: str,
    steps: int | None,
    guidance: float | None,
    size: tuple[int, int] | None,
    seed: int,
) -> Drawing:
    """What is drawn, its blanks filled in from a bundle.

    Raises:
        BundleError: There is no such bundle.
        OptionError: It cannot draw that.
    """
    from ..runtimes.bench.options import Drawing
    from ..runtimes.plan import make_plan
    from ..runtimes.request import Request

    height, width = size or (None, None)
    request = Request(prompt, steps=steps, guidance=guidance, seed=seed, height=height, width=width)
    plan = make_plan(request, load_manifest(bundle))
    return Drawing(prompt, plan.steps, plan.guidance, plan.height, plan.width, plan.seed)


def read_cores(text: str) -> tuple[int, ...]:
    """Reads `0,1`; raises `OptionError` where that is no list of numbers."""
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError:
        raise OptionError(f"'{text}' names no CPUs; give their numbers, such as 0,1.") from None


def bundle_contestants(
    bundles: Sequence[Path], engines: Sequence[str], threads: int
) -> list[Contestant]:
    """Every bundle on every engine, `RUNTIME` or `RUNTIME:PROVIDER`; its own where none is named.

    Raises what `bundle_contestant` does.
    """
    from ..runtimes.bench.contestant import bundle_contestant

    chosen = [each.partition(":") for each in engines] or [("", "", "")]
    return [
        bundle_contestant(bundle, runtime or None, provider or None, threads)
        for bundle in bundles
        for runtime, _, provider in chosen
    ]


def diffusers_contestants(
    names: Sequence[str],
    bundle: Path,
    against: str | None,
    hub: tuple[str | None, str | None, bool],
    threads: int,
) -> list[Contestant]:
    """The model that a bundle was made of in diffusers, in each of the ways that are named.

    Args:
        names: Names of variants, or several in one with commas.
        bundle: The bundle.
        against: Another model, or None.
        hub: Revision, token, and whether only the cache is used.
        threads: CPU threads.

    Raises:
        DependencyError: diffusers is not installed.
        CheckpointError: The model cannot be found or understood.
        OptionError: There is no such variant.
    """
    require_export()
    from ..runtimes.bench.contestant import diffusers_contestant

    revision, token, offline = hub
    checkpoint = load_source(
        load_manifest(bundle), against, revision=revision, token=token, offline=offline
    )
    wanted = [name.strip() for each in names for name in each.split(",") if name.strip()]
    return [diffusers_contestant(checkpoint, name, threads) for name in wanted]
