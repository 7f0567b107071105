"""Exports and verifies every model of the zoo at full size, and writes a table.

    python scripts/full_size.py DIR              # all of them; hours on two CPU cores
    python scripts/full_size.py DIR ssd-1b ...   # some

A model is made with random weights, exported in float32, compared with diffusers, and deleted.
Its figures stay in DIR/NAME.json, so that an interrupted run goes on where it stopped; the table of
everything measured so far is DIR/full_size.md. A model that the machine cannot hold gets a row that
says so, and one whose layers all are those of an earlier row names that one: made-up weights would
give the same files and figures again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import psutil
from kdexport.export.zoo import zoo, zoo_entry
from kdexport.export.zoo_types import ZooEntry

# Of the verification, the larger half of the memory: reference and engine side by side, and the
# activations of both.
_COPIES, _ACTIVATIONS = 2.2, 3e9
_STEPS = 1


@dataclass(frozen=True)
class Outcome:
    """What one model took.

    Attributes:
        model: Its name in the zoo.
        seconds: Of export and verification.
        peak_rss: Largest resident memory of the process, in bytes.
        sizes: Bytes of each component.
        relative_l2: Largest relative L2 error of each component.
        image_db: Lowest PSNR of a picture.
        note: Why there are no figures, or what was reduced.
    """

    model: str
    seconds: float = 0.0
    peak_rss: int = 0
    sizes: dict[str, int] | None = None
    relative_l2: dict[str, float] | None = None
    image_db: float | None = None
    note: str = ""


@click.command(help=__doc__)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.argument("models", nargs=-1)
def main(directory: Path, models: tuple[str, ...]) -> None:
    """Measures model after model."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in models or zoo():
        file = directory / f"{name}.json"
        if not file.exists():
            twin = None if models else _twin(name)
            outcome = Outcome(name, note=f"the layers of {twin}") if twin else None
            outcome = outcome or _measure(zoo_entry(name), directory / "scratch")
            file.write_text(json.dumps(asdict(outcome), indent=2) + "\n", encoding="utf-8")
            click.echo(f"{name}: {outcome.note or f'{outcome.seconds:.0f} s'}")
    done = [directory / f"{name}.json" for name in zoo()]
    outcomes = [
        Outcome(**json.loads(file.read_text(encoding="utf-8"))) for file in done if file.exists()
    ]
    table = _markdown(outcomes)
    (directory / "full_size.md").write_text(table, encoding="utf-8")
    click.echo(table)


def _twin(name: str) -> str | None:
    """The first model of the zoo with the same layers, where that is another one."""
    first = next(each for each in zoo() if _layers(each) == _layers(name))
    return None if first == name else first


def _layers(name: str) -> str:
    """Every component, without the size that it was trained for, and what concerns float16 only."""
    entry, ignored = zoo_entry(name), {"sample_size": None, "upcast_attention": None}
    pieces = {
        role: (piece.class_name, {**piece.config, **ignored})
        for role, piece in entry.models().items()
    }
    added = [entry.adapter and asdict(entry.adapter), entry.controlnet is None]
    return json.dumps([entry.pipeline, pieces, added], sort_keys=True, default=str)


def _measure(entry: ZooEntry, scratch: Path) -> Outcome:
    stored = 4 * sum(_parameters(entry).values())
    largest = 4 * max(_parameters(entry).values())
    needed = _COPIES * largest + _ACTIVATIONS
    memory = psutil.virtual_memory().total
    if needed > memory:
        return Outcome(entry.name, note=_too_much("memory", needed, memory))
    if 2.2 * stored > (free := shutil.disk_usage(scratch.parent).free):
        return Outcome(entry.name, note=_too_much("disk", 2.2 * stored, free))
    try:
        return _export(entry, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _export(entry: ZooEntry, scratch: Path) -> Outcome:
    model, bundle = scratch / "model", scratch / "bundle"
    scratch.mkdir(parents=True)
    _run(["models", "make", entry.name, str(model)])
    size = min(entry.resolution, 512)
    options = ["--verify-steps", str(min(_STEPS, entry.steps)), "--verify-size", *[str(size)] * 2]
    start = time.perf_counter()
    peak = _run(["onnx", str(model), "-o", str(bundle), "--schedulers", "", *options])
    seconds = time.perf_counter() - start
    record = json.loads((bundle / "parity.json").read_text(encoding="utf-8"))
    errors: dict[str, float] = {}
    for check in record["components"]:
        error = check["difference"]["relative_l2"]
        errors[check["role"]] = max(errors.get(check["role"], 0.0), error)
    pictures = [each["psnr_db"] for run in record["runs"] for each in run["images"]]
    sizes = {
        role: sum(file.stat().st_size for file in (bundle / role).iterdir()) for role in errors
    }
    note = f"verified at {size}x{size}" if size != entry.resolution else ""
    return Outcome(entry.name, seconds, peak, sizes, errors, min(pictures), note)


def _run(arguments: Sequence[str]) -> int:
    """Runs a command of kdexport; returns its peak resident memory in bytes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kdexport", *arguments], stdout=subprocess.DEVNULL
    )
    peak = 0
    watched = psutil.Process(process.pid)
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    done.set()
    watcher.join()
    if status:
        raise click.ClickException(f"kdexport {' '.join(arguments)} ended with status {status}.")
    return peak


def _parameters(entry: ZooEntry) -> dict[str, int]:
    return {
        f"{name} {part}": expected.parameters
        for name, piece in entry.models().items()
        for part, expected in piece.expected.items()
    }


def _too_much(what: str, needed: float, there: float) -> str:
    return f"too large: needs about {needed / 1e9:.0f} GB of {what}, there are {there / 1e9:.0f}"


def _markdown(outcomes: Sequence[Outcome]) -> str:
    lines = [
        f"Float32, random weights, {os.cpu_count()} CPU cores; errors are relative L2, the largest "
        "of each component.",
        "",
        "| model | seconds | peak RSS | sizes | errors | picture | |",
        "|---|--:|--:|---|---|--:|---|",
    ]
    for each in outcomes:
        sizes = ", ".join(f"{role} {n / 1e6:,.0f} MB" for role, n in (each.sizes or {}).items())
        errors = ", ".join(f"{role} {x:.1e}" for role, x in (each.relative_l2 or {}).items())
        cells = ["", "", sizes, errors, ""]
        if each.image_db is not None:
            cells[0], cells[1] = f"{each.seconds:.0f}", f"{each.peak_rss / 1e9:.2f} GB"
            cells[4] = f"{each.image_db:.1f} dB"
        lines.append(f"| {each.model} | {' | '.join(cells)} | {each.note} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
