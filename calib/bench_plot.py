"""Seconds and memory of `kdexport bench`: a picture for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import OptionError
from ..core.folder import whole_file
from ..runtimes.bench.report import Row
from .plot import require_plotting

_INK, _GRID = "#1a1a1a", "#d9d9d9"
_OURS, _OTHER, _MEMORY = "#0b6e99", "#94a3b8", "#c2410c"
# Names longer than this go on in a second line.
_NAME = 34


def plot_bench(title: str, rows: Sequence[Row], file: Path) -> None:
    """Draws a bar of seconds per picture, with its spread, and one of peak memory for each row.

    Rows that drew nothing are left out; those of bundles have a colour of their own.

    Args:
        title: What was drawn.
        rows: The contestants, in the order of the bars from above.
        file: The PNG to make, or replace.

    Raises:
        DependencyError: matplotlib is not installed.
        OptionError: No row drew anything.
    """
    require_plotting()
    from matplotlib.figure import Figure

    drawn = [row for row in rows if row.picture is not None]
    if not drawn:
        raise OptionError("Nobody drew a picture, so there is nothing to plot; see their errors.")
    height = 1.3 + 0.46 * len(drawn)
    picture = Figure(figsize=(11.5, height), dpi=110, layout="constrained", facecolor="white")
    seconds, memory = picture.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    colours = [_OURS if "kdexport" in row.versions else _OTHER for row in drawn]
    spreads = [row.picture for row in drawn if row.picture is not None]
    medians = [each.median for each in spreads]
    errors = [
        [each.median - each.low for each in spreads],
        [each.high - each.median for each in spreads],
    ]
    places = range(len(drawn))
    seconds.barh(places, medians, color=colours, height=0.62, zorder=2)
    seconds.errorbar(
        medians, places, xerr=errors, fmt="none", ecolor=_INK, elinewidth=1, capsize=3, zorder=3
    )
    labels = [f"{each.median:.2f}{_times(row)}" for each, row in zip(spreads, drawn, strict=True)]
    _values(seconds, [each.high for each in spreads], labels)
    _finish(seconds, "seconds per picture (times as long as the first)")
    seconds.set_yticks(places, [_broken(row.name) for row in drawn], fontsize=8, color=_INK)
    seconds.invert_yaxis()
    peaks = [(row.peak_rss or 0) / 1e9 for row in drawn]
    memory.barh(places, peaks, color=_MEMORY, height=0.62, zorder=2)
    _values(memory, peaks, [f"{each:.2f}" for each in peaks])
    _finish(memory, "peak resident memory, GB")
    picture.suptitle(title, color=_INK, fontsize=11)
    with whole_file(file, overwrite=True) as staging:
        picture.savefig(staging, format="png", facecolor="white")


def _times(row: Row) -> str:
    return "" if row.ratio is None else f"  ({row.ratio.median:.2f})"


def _values(axes: Any, ends: Sequence[float], labels: Sequence[str]) -> None:
    """Writes a value behind the end of each bar."""
    for place, (end, label) in enumerate(zip(ends, labels, strict=True)):
        axes.annotate(
            label,
            (end, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_INK,
        )
    # Room for the longest of them.
    axes.set_xlim(0, 1.25 * max(ends) or 1)


def _finish(axes: Any, label: str) -> None:
    axes.set_xlabel(label, color=_INK, fontsize=9)
    axes.tick_params(axis="x", labelsize=8, colors=_INK)
    axes.grid(axis="x", color=_GRID, linewidth=0.6, zorder=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _broken(name: str) -> str:
    """A long name in two lines."""
    if len(name) <= _NAME:
        return name
    head, space, tail = name[:_NAME].rpartition(" ")
    return f"{head}\n{tail}{name[_NAME:]}" if space else name
