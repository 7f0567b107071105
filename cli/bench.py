"""`kdexport bench`: speed and memory of bundles beside other ways to draw the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.errors import OptionError
from .benching import (
    bundle_contestants,
    diffusers_contestants,
    find_bundles,
    read_cores,
    resolve_drawing,
)
from .common import FOLDER, hub_options, json_option, print_json, print_table
from .progress import progress

if TYPE_CHECKING:
    from ..runtimes.bench.options import Drawing
    from ..runtimes.bench.report import Row

_PROMPT = "a golden vase with different flowers"


@click.command(short_help="Measure how fast BUNDLEs draw, and what memory they take.")
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="RUNTIME[:PROVIDER]",
    help="What runs the bundles, such as openvino:cpu-bf16; may be repeated. Their own if left "
    "out.",
)
@click.option(
    "--vs",
    multiple=True,
    metavar="NAME[,NAME...]",
    help="Also diffusers, diffusers-bf16, diffusers-compile, diffusers-compile-bf16, "
    "diffusers-frozen or diffusers-frozen-bf16, with the model that the first bundle was made of.",
)
@click.option("--against", metavar="MODEL", help="Another model for these.")
@click.option("--prompt", default=_PROMPT, show_default=True, help="What to draw.")
@click.option("--steps", type=int, help="Denoising steps.")
@click.option("--guidance", type=float, help="Guidance scale; at most 1 turns guidance off.")
@click.option("--size", type=(int, int), metavar="H W", help="Image size in pixels.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the noise.")
@click.option("--rounds", type=int, default=3, show_default=True, help="Turns of each.")
@click.option("--cold", type=int, default=1, show_default=True, help="Turns with empty caches.")
@click.option("--pictures", type=int, default=1, show_default=True, help="Pictures of a turn.")
@click.option("--threads", type=int, help="CPU threads of each; as many as CPUs if left out.")
@click.option("--cores", metavar="N[,N...]", help="The CPUs to bind them to (Linux).")
@click.option("--limit", type=float, default=1800, show_default=True, help="Seconds of a turn.")
@click.option("--plot", type=FOLDER, help="A PNG to draw the figures to.")
@hub_options
@json_option
def bench(
    bundles: tuple[str, ...],
    engines: tuple[str, ...],
    vs: tuple[str, ...],
    against: str | None,
    prompt: str,
    steps: int | None,
    guidance: float | None,
    size: tuple[int, int] | None,
    seed: int,
    rounds: int,
    cold: int,
    pictures: int,
    threads: int | None,
    cores: str | None,
    limit: float,
    plot: Path | None,
    revision: str | None,
    token: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Measure how fast each BUNDLE draws, and how much memory it takes.

    Every bundle on every engine, and what --vs names, draws the same picture from the same noise.
    They take turns, each in a process of its own, one at a time: it starts, draws a first picture,
    and then the ones that are timed. Before that, each starts once with empty caches. What is left
    out takes the first bundle's default. The first one is what the others are compared with.

    A BUNDLE may be the Hub id of a repository that holds a bundle; --revision is that of these
    bundles, and where there is none, of the model that --vs draws with.
    """
    from ..calib.bench_plot import plot_bench
    from ..calib.plot import require_plotting
    from ..runtimes.bench.alternate import alternate
    from ..runtimes.bench.options import Effort, usable_cores
    from ..runtimes.bench.report import make_rows, to_json
    from ..runtimes.image import require_png_path

    if against is not None and not vs:
        raise OptionError("--against names a model for --vs; give that, or leave it out.")
    effort = Effort(
        rounds=rounds,
        cold=cold,
        pictures=pictures,
        threads=usable_cores() if threads is None else threads,
        cores=None if cores is None else read_cores(cores),
        limit=limit,
    )
    folders, revision = find_bundles(bundles, revision, token, offline)
    if revision is not None and not vs:
        raise OptionError(
            f"None of these bundles is on the Hub, so none has a revision '{revision}'; leave "
            "--revision out, or give --vs, whose model it is then of."
        )
    drawing = resolve_drawing(folders[0], prompt, steps, guidance, size, seed)
    contestants = bundle_contestants(folders, engines, effort.threads)
    if plot is not None:
        # Before anything is measured, not after.
        require_png_path(plot)
        require_plotting()
    if vs:
        source = (folders[0], against, (revision, token, offline))
        contestants += diffusers_contestants(vs, *source, effort.threads)
    with progress(quiet=as_json) as report:
        records = alternate(contestants, drawing, effort, report)
    rows = make_rows(records)
    if plot is not None:
        plot_bench(drawing.title, rows, plot)
    if as_json:
        print_json(to_json(rows, records, drawing, effort))
        return
    _print(drawing, rows)


def _print(drawing: Drawing, rows: Sequence[Row]) -> None:
    from ..runtimes.bench.table import COLUMNS, table_rows

    print_table(drawing.title, list(COLUMNS), table_rows(rows))
    click.echo("Seconds are medians (smallest…largest); those of a component are of one call.")
