"""The plot of `kdexport bench`: every bar is named, and nothing covers anything else."""

from __future__ import annotations

import pytest
from kdexport.calib.bench_plot import plot_bench
from kdexport.core.errors import OptionError
from kdexport.runtimes.bench.report import Row
from kdexport.runtimes.bench.statistics import Spread
from matplotlib.figure import Figure


def row(name, seconds, **changes):
    spread = Spread(seconds, 0.9 * seconds, 1.2 * seconds, 3)
    return Row(name, picture=spread, ratio=spread, peak_rss=int(1e9 * seconds), **changes)


def test_texts_do_not_overlap(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig

    def savefig(self, *arguments, **named):
        save(self, *arguments, **named)
        drawn.append(self)

    monkeypatch.setattr(Figure, "savefig", savefig)
    names = [f"contestant {n} with a long name that goes on, {n}" for n in range(14)]
    rows = [row(name, 1 + 3 * n) for n, name in enumerate(names)]
    rows.append(Row("broken", error="it failed"))
    file = tmp_path / "bench.png"
    plot_bench("512x512, 10 steps", rows, file)
    assert file.read_bytes()[:4] == b"\x89PNG"
    (picture,) = drawn
    for axes in picture.axes:
        labels = [*axes.texts, *axes.get_yticklabels()]
        boxes = [each.get_window_extent() for each in labels if each.get_text()]
        assert len(boxes) >= 14
        assert all(not a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        # Every value is inside the picture.
        assert all(each.x0 >= 0 and each.x1 <= picture.bbox.x1 for each in boxes)
    assert not any("broken" in each.get_text() for each in picture.axes[0].get_yticklabels())


def test_nobody_drew(tmp_path):
    with pytest.raises(OptionError, match="Nobody drew a picture"):
        plot_bench("x", [Row("a", error="b")], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
