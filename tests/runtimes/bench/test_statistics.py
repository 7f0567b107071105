"""Spreads and ratios."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.runtimes.bench.statistics import Spread, ratios

seconds = st.floats(min_value=1e-3, max_value=1e4)
several = st.lists(seconds, min_size=1, max_size=12)


def test_nothing_has_no_spread():
    assert Spread.of([]) is None
    assert ratios([], [1.0]) == []


@given(several, st.randoms())
def test_a_spread_holds_all_values_in_any_order(values, random):
    spread = Spread.of(values)
    assert spread.low <= spread.median <= spread.high
    assert all(spread.low <= value <= spread.high for value in values)
    # Half of them or more on either side.
    assert 2 * sum(value <= spread.median for value in values) >= len(values)
    assert 2 * sum(value >= spread.median for value in values) >= len(values)
    random.shuffle(values)
    assert Spread.of(values) == spread


@given(several)
def test_the_first_is_as_long_as_itself(values):
    assert ratios(values, values) == [1.0] * len(values)


@given(st.lists(st.tuples(seconds, seconds, st.floats(0.1, 10)), min_size=1, max_size=12))
def test_what_slows_a_round_down_cancels(rounds):
    plain = ratios([own for own, _, _ in rounds], [first for _, first, _ in rounds])
    slowed = ratios([own * s for own, _, s in rounds], [first * s for _, first, s in rounds])
    assert slowed == pytest.approx(plain)


@given(several, several)
def test_only_shared_rounds_count(values, first):
    assert len(ratios(values, first)) == min(len(values), len(first))
