"""Names of points: beside their own, covering nothing."""

import math

from hypothesis import given
from hypothesis import strategies as st
from kdexport.calib.labels import Box, place

FRAME = Box(0, 0, 1000, 600)
SIZE = (60.0, 10.0)


def box(centre):
    return Box(centre[0] - 30, centre[1] - 5, centre[0] + 30, centre[1] + 5)


def test_a_lone_name_stands_above_its_point():
    ((x, y),) = place([(500, 300)], [SIZE], FRAME)
    assert x == 500
    assert 300 < y < 330


def test_a_name_at_the_edge_stays_inside():
    for point in [(2, 2), (998, 598), (2, 598), (998, 2)]:
        (centre,) = place([point], [SIZE], FRAME)
        assert box(centre).inside(FRAME)


@given(
    st.lists(
        st.tuples(st.integers(100, 900), st.integers(100, 500)), min_size=2, max_size=6, unique=True
    )
)
def test_few_names_never_cover_each_other(points):
    boxes = [box(centre) for centre in place(points, [SIZE] * len(points), FRAME)]
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert all(a.overlap(b) == 0 for a, b in pairs)


def test_equal_points_get_names_of_their_own_nearby():
    centres = place([(500, 300)] * 5, [SIZE] * 5, FRAME)
    assert len(set(centres)) == 5
    assert all(math.dist(centre, (500, 300)) < 120 for centre in centres)


def test_a_frame_too_small_still_gives_a_place():
    assert len(place([(5, 5)], [SIZE], Box(0, 0, 10, 10))) == 1
