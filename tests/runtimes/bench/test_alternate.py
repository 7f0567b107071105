"""Contestants in turns: their order, their caches, and those that fail."""

from __future__ import annotations

import math

import pytest
from kdexport.core.errors import OptionError, RunError
from kdexport.core.folder import user_cache
from kdexport.runtimes.bench.alternate import alternate
from kdexport.runtimes.bench.options import Effort
from kdexport.runtimes.bench.report import from_json, make_rows, to_json
from kdexport.runtimes.bench.table import COLUMNS, markdown, table_rows

QUIET = lambda what, share: None  # noqa: E731


def test_everybody_has_a_turn_in_every_round(stand_in, drawing, tmp_path):
    log = tmp_path / "log"
    who = [stand_in(name, log=str(log)) for name in ("a", "b")]
    told = []
    effort = Effort(rounds=2, cold=2)
    records = alternate(who, drawing, effort, lambda what, share: told.append((what, share)))
    # Names in order, with how much was in their caches: nothing in a cold turn.
    assert log.read_text().split("\n")[:-1] == ["a 0", "b 0", "a 0", "b 0", *["a 1", "b 1"] * 2]
    assert told[0] == ("cold starts 1 of 2", 0.0)
    assert told[-1] == ("round 2 of 2", 0.5)
    assert [(len(each.cold), len(each.turns)) for each in records] == [(2, 2)] * 2
    assert all(turn.pictures == () for turn in records[0].cold)
    assert records[0].cache_bytes == 4
    assert not list(user_cache().glob("bench-*"))


def test_rows(stand_in, drawing):
    who = [
        stand_in("first", level=10, seconds=0.01),
        stand_in("same", level=10),
        stand_in("other", level=20, seconds=0.05),
        stand_in("own noise", level=30, same_noise=False),
        stand_in("broken", fails="dies"),
    ]
    effort = Effort(rounds=2)
    records = alternate(who, drawing, effort, QUIET, tolerant=True)
    rows = make_rows(records)
    first, same, other, own, broken = rows
    assert (first.ratio.median, first.psnr_db, first.bytes) == (1.0, None, 1000)
    assert (same.psnr_db, own.psnr_db) == (math.inf, None)
    assert other.psnr_db == pytest.approx(10 * math.log10(255**2 / 100))
    assert other.ratio.median > 1
    assert (other.calls, other.picture.count, other.cold.count) == ({"unet": 1}, 2, 1)
    assert other.seconds["unet"] >= 0.05
    assert (broken.picture, broken.ratio, broken.peak_rss) == (None, None, None)
    assert broken.error == "'broken' failed with status 7: dying now"
    data = to_json(rows, records, drawing, effort)
    assert from_json(data) == rows
    assert len(data["contestants"][0]["turns"]) == 2
    cells = dict(zip(COLUMNS, table_rows(rows)[4], strict=True))
    assert (cells[">s per picture"], cells[">times as long"]) == ("failed", "")
    assert "- broken: 'broken' failed" in markdown(rows)
    assert len({line.count("|") for line in markdown(rows).splitlines() if "|" in line}) == 1


def test_a_failure_ends_all_where_nothing_else_is_asked_for(stand_in, drawing, tmp_path):
    log = tmp_path / "log"
    who = [stand_in("a", fails="dies"), stand_in("b", log=str(log))]
    with pytest.raises(RunError, match="'a' failed with status 7"):
        alternate(who, drawing, Effort(), QUIET)
    assert not log.exists()
    assert not list(user_cache().glob("bench-*"))


def test_where_the_first_fails_there_are_no_ratios(stand_in, drawing):
    who = [stand_in("a", fails="dies"), stand_in("b")]
    rows = make_rows(alternate(who, drawing, Effort(rounds=1), QUIET, tolerant=True))
    assert rows[1].picture is not None
    assert rows[1].ratio is None
    assert rows[1].psnr_db is None


def test_nobody_twice(stand_in, drawing):
    for who in ([], [stand_in("a"), stand_in("a")]):
        with pytest.raises(OptionError, match="nobody twice"):
            alternate(who, drawing, Effort(), QUIET)
