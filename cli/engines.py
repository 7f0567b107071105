"""How engines are shown, by the command that makes them and by `inspect`."""

from __future__ import annotations

import click

from ..core.engines import ENGINES
from ..core.errors import listing
from ..core.folder import megabytes
from ..core.gpus import gpus_of
from ..core.manifest import EngineRecord, Manifest
from .common import print_table

# Settings of a build that say nothing.
_USUAL = ("none", None)


def print_engines(manifest: Manifest) -> None:
    """Prints the engines of a bundle: target, library, profile, size and identity."""
    sizes = {record.path: record.bytes for record in manifest.files}
    rows = [
        [
            each.file,
            f"{each.capability} ({listing(gpus_of(each.capability), 3)})",
            _built_with(each),
            megabytes(sizes[each.file]),
            each.key[:12],
        ]
        for each in manifest.engines
    ]
    print_table("Engines", ["file", "for", "built with", ">size", "key"], rows)
    rows = [
        [each.role, name, *(_shape(shape) for shape in shapes)]
        for each in _one_per_role(manifest)
        for name, shapes in each.profile.items()
    ]
    print_table("Profiles", ["engine", "input", "smallest", "best", "largest"], rows)


def say_not_executed(manifest: Manifest) -> None:
    """Says what a verification without a GPU left out."""
    targets = sorted({each.capability for each in manifest.engines})
    click.echo(
        f"Engines for {', '.join(targets)} built, not executed here: compared were the ONNX files "
        "that they were built from. Run `kdexport verify` on such a GPU to compare the engines."
    )


def _built_with(engine: EngineRecord) -> str:
    """The library, and the settings that somebody chose."""
    chosen = [f"{name} {value}" for name, value in engine.settings.items() if value not in _USUAL]
    return ", ".join([f"{ENGINES[engine.kind].title} {engine.tensorrt}", *chosen])


def _one_per_role(manifest: Manifest) -> list[EngineRecord]:
    """The engines of different GPUs have the same profile."""
    return list({each.role: each for each in reversed(manifest.engines)}.values())[::-1]


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in shape) or "()"
