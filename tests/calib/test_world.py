"""The world: what its captions say is what is painted."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.calib.world.captions import (
    NUMBERS,
    PLACES,
    ZONES,
    is_held_out,
    make_scene,
    scenes,
)
from kdexport.calib.world.paint import paint
from kdexport.calib.world.palette import COLOURS, colours_on
from kdexport.calib.world.scene import SIZE, Part, Scene
from kdexport.calib.world.shapes import SHAPES, outline

SEEDS = st.integers(0, 10**9)


def drawn(*parts, background="white", texture="plain", stems=()):
    return paint(Scene("", (), (), background, texture, parts, stems))


# Captions


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_streams_are_a_split_of_the_same_scenes(seed):
    every = [make_scene(Random(f"{seed}/{i}")) for i in range(60)]
    kept = [scene for scene in every if is_held_out(scene.caption)]
    train = [scene for scene in every if not is_held_out(scene.caption)]
    assert list(islice(scenes(seed, held_out=False), len(train))) == train
    assert list(islice(scenes(seed, held_out=True), len(kept))) == kept


def test_no_caption_is_in_both_streams():
    train = {scene.caption for scene in islice(scenes(0, held_out=False), 4000)}
    kept = {scene.caption for scene in islice(scenes(0, held_out=True), 400)}
    assert not any(map(is_held_out, train))
    assert all(map(is_held_out, kept))
    assert not train & kept


def test_seeds_differ():
    first, second = (next(scenes(seed, held_out=False)) for seed in (0, 1))
    assert first != second


def test_one_caption_of_twenty_is_held_out():
    captions = [make_scene(Random(i)).caption for i in range(4000)]
    assert 0.04 < sum(map(is_held_out, captions)) / len(captions) < 0.06


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_everything_lies_on_the_canvas_and_stands_out(seed):
    scene = make_scene(Random(seed))
    points = [
        (part.x + x * part.width, part.y + y * part.height)
        for part in scene.parts
        for x, y in outline(part.shape)
    ]
    points += [point for s in scene.stems for point in ((s.x1, s.y1), (s.x2, s.y2))]
    assert all(0 <= value <= SIZE for point in points for value in point)
    used = {part.colour for part in scene.parts} | ({"green"} if scene.stems else set())
    assert used <= set(colours_on(scene.background))


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_a_scene_draws_what_it_promises(seed):
    scene = make_scene(Random(seed))
    promised = Counter({(group.colour, group.shape): group.count for group in scene.groups})
    painted = Counter((part.colour, part.shape) for part in scene.parts)
    assert painted - promised <= Counter({("brown", "trunk"): 1})
    assert not promised - painted
    assert {part.colour for part in scene.parts} <= {
        *scene.extras,
        *(group.colour for group in scene.groups),
    }
    # Each colour belongs to one group only: that is how the score finds it.
    colours = [*scene.extras, *(group.colour for group in scene.groups)]
    assert len(colours) == len(set(colours))


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_a_caption_says_what_is_drawn_and_no_more(seed):
    """The promises are rebuilt from the caption's words alone."""
    scene = make_scene(Random(seed))
    things, _, ground = scene.caption.rpartition(" on a ")
    words = ground.removesuffix(" background").split()
    assert words[-1] == scene.background
    assert words[:-1] == ([] if scene.texture == "plain" else [scene.texture])
    assert [group.colour for group in scene.groups] == [
        word for word in things.split() if word in COLOURS
    ]
    said = f" {things} ".replace(" roof ", " triangle ").replace("crosses", "cross")
    for group in scene.groups:
        plural = "s" if group.count > 1 and group.shape != "cross" else ""
        size = f"{group.size} " if group.size else ""
        assert f" {size}{group.colour} {group.shape}{plural} " in said
        assert group.count == 1 or f" {NUMBERS[group.count]} {group.colour} " in said
    zones = [words for words in ZONES.values() if said.endswith(f" {words} ")]
    assert zones == [ZONES[group.zone] for group in scene.groups if group.zone]
    relations = [place for place, words in PLACES.items() if f" {words} " in said]
    implied = ["above" for word in (" with ", " under ") if word in said]
    assert [relation.place for relation in scene.relations] == (relations or implied)


# Shapes and paint


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_keep_to_their_square(shape):
    assert all(-1 - 1e-9 <= value <= 1 + 1e-9 for point in outline(shape) for value in point)


def test_pictures_are_bytes_and_always_the_same():
    scene = next(scenes(3, held_out=True))
    image = paint(scene)
    assert image.shape == (SIZE, SIZE, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, paint(scene))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no texture 'marbled'"):
        drawn(texture="marbled")
    with pytest.raises(KeyError):
        drawn(Part("blob", "red", 64, 64, 20, 20))
