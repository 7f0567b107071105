import math

from hypothesis import given
from hypothesis import strategies as st
from kdexport.runtimes.report.chart import HIGHEST_DB, step_chart

decibels = st.integers(-20, 200).map(float) | st.just(math.inf)


@given(st.lists(st.lists(decibels, min_size=1, max_size=60), min_size=1, max_size=6))
def test_everything_is_inside(runs):
    chart = step_chart([(f"run {index}", each) for index, each in enumerate(runs)])
    assert [len(line.points) for line in chart.lines] == [len(each) for each in runs]
    marks = [(chart.left, each.place) for each in chart.vertical]
    marks += [(each.place, chart.top) for each in chart.horizontal]
    for x, y in [*marks, *((p.x, p.y) for line in chart.lines for p in line.points)]:
        assert chart.left <= x <= chart.right
        assert chart.top - 0.01 <= y <= chart.bottom + 0.01
    assert 2 <= len(chart.vertical) <= 12
    assert len(chart.horizontal) <= 13
    for line, values in zip(chart.lines, runs, strict=True):
        heights = [point.y for point in line.points]
        clipped = [min(value, HIGHEST_DB) for value in values]
        assert (heights.index(min(heights))) == clipped.index(max(clipped))


def test_equal_latents_are_at_the_top():
    chart = step_chart([("a", [math.inf, 100.0])])
    assert chart.lines[0].points[0].y == chart.top
    assert chart.lines[0].points[0].label == "a, step 1: equal"
    assert chart.lines[0].points[1].label == "a, step 2: 100.0 dB"


def test_what_is_not_finite_ends_a_line():
    chart = step_chart([("a", [90.0, math.nan, 80.0]), ("b", [math.nan])])
    assert [(line.name, len(line.points)) for line in chart.lines] == [("a", 1)]


def test_nothing_to_draw():
    assert step_chart([]) is None
    assert step_chart([("a", []), ("b", [math.nan])]) is None
