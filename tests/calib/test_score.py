"""The score: full marks for what a caption says, and the right mark lost for each wrong.

No picture here comes from a model: scenes are painted exactly, worn, or painted wrong on purpose.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.calib.world.captions import scenes
from kdexport.calib.world.paint import paint
from kdexport.calib.world.palette import BACKGROUNDS, COLOURS
from kdexport.calib.world.scene import SIZE, Group, Part, Relation, Scene
from kdexport.calib.world.score import BIG, SMALL, Scores, Verdict, judge, summarize

VERDICTS = st.builds(
    Verdict,
    *[st.booleans()] * 3,
    *[st.sampled_from([True, False, None])] * 2,
    st.booleans(),
)


@pytest.fixture(scope="module")
def held_out():
    return list(islice(scenes(0, held_out=True), 300))


@pytest.fixture(scope="module")
def painted(held_out):
    return [paint(scene) for scene in held_out]


def scored(chosen, pictures):
    return summarize(judge(*pair) for pair in zip(chosen, pictures, strict=True))


def rates(scores):
    return [value for name, value in scores.to_json().items() if name != "captions"]


def test_painted_scenes_have_full_marks(held_out, painted):
    scores = scored(held_out, painted)
    assert scores.captions == 300
    assert min(rates(scores)) >= 0.99


def test_worn_pictures_have_nearly_full_marks(held_out, painted, worn):
    scores = scored(held_out, [worn(image, seed) for seed, image in enumerate(painted)])
    assert min(rates(scores)) >= 0.96


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_the_number_must_be_exact(count):
    corners = [(30, 30), (98, 30), (30, 98), (98, 98)]
    parts = tuple(Part("circle", "red", x, y, 15, 15) for x, y in corners[:count])
    scene = Scene("", (Group(3, "red", "circle"),), (), "white", "plain", parts)
    verdict = judge(scene, paint(scene))
    assert not verdict.count
    assert verdict.colour is verdict.shape is (count > 0)


def test_one_wrong_shape_among_several_is_found():
    parts = tuple(
        Part(s, "red", x, 64, 15, 15) for s, x in zip(("star", "cross"), (30, 98), strict=True)
    )
    scene = Scene("", (Group(2, "red", "star"),), (), "white", "plain", parts)
    verdict = judge(scene, paint(scene))
    assert (verdict.shape, verdict.count) == (False, True)


def test_extras_may_be_there_but_need_not():
    tree = Part("tree", "green", 64, 50, 30, 30)
    trunk = Part("trunk", "brown", 64, 95, 5, 25)
    scene = Scene("", (Group(1, "green", "tree"),), (), "white", "plain", ())
    pictures = {extras: paint(replace(scene, parts=extras)) for extras in ((tree,), (trunk, tree))}
    with_trunk = replace(scene, extras=("brown",))
    assert [judge(with_trunk, each).exact for each in pictures.values()] == [True, True]
    assert [judge(scene, each).exact for each in pictures.values()] == [True, False]


@pytest.mark.parametrize("place", ["above", "below", "left", "right"])
def test_relations_hold_in_one_direction_only(place):
    first, second = Part("star", "red", 60, 30, 15, 15), Part("heart", "blue", 30, 90, 15, 15)
    groups = (Group(1, "red", "star"), Group(1, "blue", "heart"))
    scene = Scene("", groups, (Relation(0, place, 1),), "white", "plain", (first, second))
    back = replace(scene, relations=(Relation(1, place, 0),))
    image = paint(scene)
    assert judge(scene, image).position is (place in ("above", "right"))
    assert judge(back, image).position is (place in ("below", "left"))


def test_level_things_are_neither_above_nor_below():
    parts = (Part("circle", "red", 30, 63, 15, 15), Part("circle", "blue", 98, 65, 15, 15))
    groups = (Group(1, "red", "circle"), Group(1, "blue", "circle"))
    scene = Scene("", groups, (), "white", "plain", parts)
    for place in ("above", "below"):
        asked = replace(scene, relations=(Relation(0, place, 1),))
        assert judge(asked, paint(scene)).position is False


@pytest.mark.parametrize(("side", "size"), [(SMALL - 4, "small"), (BIG + 4, "big"), (37, None)])
def test_sizes_have_a_gap_between_them(side, size):
    part = Part("circle", "red", 64, 64, side / 2, side / 2)
    scene = Scene("", (), (), "white", "plain", (part,))
    image = paint(scene)
    for asked in ("small", "big"):
        group = Group(1, "red", "circle", size=asked)
        assert judge(replace(scene, groups=(group,)), image).size is (asked == size)


def test_what_the_caption_does_not_say_is_not_judged():
    part = Part("circle", "red", 64, 64, 20, 20)
    scene = Scene("", (Group(1, "red", "circle"),), (), "white", "plain", (part,))
    verdict = judge(scene, paint(scene))
    assert (verdict.position, verdict.size, verdict.exact) == (None, None, True)


# Pictures that have nothing to do with the caption


def test_the_picture_of_another_caption_scores_low(held_out, painted):
    scores = scored(held_out, painted[1:] + painted[:1])
    assert scores.exact < 0.01
    assert max(scores.colour, scores.shape, scores.count, scores.position, scores.size) < 0.35
    assert scores.background < 0.25


@pytest.mark.parametrize("colour", [*COLOURS, *BACKGROUNDS])
def test_a_blank_picture_scores_nothing_but_its_background(held_out, colour):
    blank = np.full((SIZE, SIZE, 3), {**COLOURS, **BACKGROUNDS}[colour], np.uint8)
    for scene in held_out[:10]:
        verdict = judge(scene, blank)
        assert not any(
            (verdict.colour, verdict.shape, verdict.count, verdict.position, verdict.size)
        )
        assert verdict.background is (scene.background == colour)


def test_noise_scores_nothing(held_out):
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(60)]
    scores = scored(held_out[:60], pictures)
    assert scores.exact == 0
    assert scores.overall < 0.1


def test_the_caption_is_not_read(held_out, painted):
    for scene, image in islice(zip(held_out, painted, strict=True), 5):
        assert judge(replace(scene, caption="", parts=(), stems=()), image) == judge(scene, image)


# Summaries


def test_rates_count_only_captions_that_promise():
    right = Verdict(True, True, True, None, True, True)
    wrong = replace(right, shape=False, size=None, position=False)
    scores = summarize([right, right, right, wrong])
    assert scores == Scores(4, 1.0, 0.75, 1.0, 0.0, 1.0, 1.0, exact=0.75, overall=4.75 / 6)
    assert json.loads(json.dumps(scores.to_json()))["shape"] == 0.75


def test_rates_of_what_nobody_promises_are_unknown():
    scores = summarize([Verdict(True, True, False, None, None, True)])
    assert scores.position is scores.size is None
    assert scores.overall == 0.75
    assert scores.to_json()["size"] is None


def test_no_verdicts_have_no_rates():
    with pytest.raises(ValueError, match="no verdicts"):
        summarize([])


@given(st.lists(VERDICTS, min_size=1))
def test_rates_are_fractions_and_exact_is_the_least(verdicts):
    scores = summarize(verdicts)
    known = [value for value in rates(scores) if value is not None]
    assert all(0 <= value <= 1 for value in known)
    assert scores.exact <= min(scores.colour, scores.shape, scores.count, scores.background)
    assert (scores.exact == 1) == (scores.overall == 1)
    assert summarize(reversed(verdicts)) == scores
