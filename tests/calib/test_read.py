"""Reading pictures back: exact ones, worn ones, and some that the world never draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.calib.world.captions import SIMPLE, scenes
from kdexport.calib.world.match import OTHER
from kdexport.calib.world.paint import paint
from kdexport.calib.world.palette import BACKGROUNDS, COLOURS, TEXTURES, colours_on
from kdexport.calib.world.read import read
from kdexport.calib.world.scene import SIZE, Part, Scene, Stem
from kdexport.calib.world.shapes import SHAPES, outline

SEEDS = st.integers(0, 10**9)


def drawn(*parts, background="white", texture="plain", stems=()):
    return paint(Scene("", (), (), background, texture, parts, stems))


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("texture", TEXTURES)
def test_backgrounds_are_read_and_no_texture_is_a_thing(background, texture, worn):
    image = drawn(background=background, texture=texture)
    for picture in (image, worn(image, seed=0)):
        reading = read(picture)
        assert (reading.background, reading.items) == (background, ())


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_colours_are_read_on_every_background(background, worn):
    for colour in colours_on(background):
        image = drawn(Part("circle", colour, 60, 70, 16, 16), background=background)
        for picture in (image, worn(image, seed=1)):
            (item,) = read(picture).items
            assert (item.colour, item.shape) == (colour, "circle")


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "trunk"])
@pytest.mark.parametrize("radius", [14, 21, 29])
def test_shapes_are_read_and_not_mixed_up(shape, radius, worn):
    image = drawn(Part(shape, "red", 64, 64, radius, radius), background="teal")
    for picture in (image, worn(image, seed=2)):
        (item,) = read(picture).items
        assert item.shape == shape


def test_trunks_and_roofs_keep_their_proportions():
    trunk, roof = Part("trunk", "brown", 30, 64, 5, 12), Part("triangle", "red", 80, 64, 33, 20)
    assert [item.shape for item in read(drawn(trunk, roof)).items] == ["triangle", "trunk"]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SIMPLE),
    st.floats(11, 30),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(["purple", "orange", "blue"]),
)
def test_place_and_size_are_read_to_a_pixel_or_two(shape, radius, right, down, colour):
    low, high = radius + 3, SIZE - radius - 3
    x, y = low + right * (high - low), low + down * (high - low)
    (item,) = read(drawn(Part(shape, colour, x, y, radius, radius), background="cream")).items
    across, along = zip(*outline(shape), strict=True)
    left, top = x + radius * min(across), y + radius * min(along)
    width, height = (radius * (max(each) - min(each)) for each in (across, along))
    assert (item.colour, item.shape) == (colour, shape)
    assert item.x == pytest.approx(left + width / 2, abs=1.5)
    assert item.y == pytest.approx(top + height / 2, abs=2)
    # The last pixels of a spike are thinner than any pixel.
    assert -5 <= item.width - width <= 1.5
    assert -5 <= item.height - height <= 1.5


def test_edges_are_no_things(worn):
    """Between these two lies every shade of pink."""
    image = drawn(Part("star", "red", 50, 50, 28, 28), Part("ring", "pink", 100, 100, 20, 20))
    found = [(item.colour, item.shape) for item in read(worn(image, seed=3)).items]
    assert found == [("red", "star"), ("pink", "ring")]


def test_stems_are_no_things(worn):
    image = drawn(stems=(Stem(60, 110, 70, 20), Stem(20, 20, 20, 100)), background="lavender")
    assert read(image).items == read(worn(image, seed=4)).items == ()


def test_things_that_touch_are_counted():
    pair = [Part("star", "red", x, 64, 15, 15) for x in (50, 78.6)]
    assert [item.shape for item in read(drawn(*pair)).items] == ["star", "star"]
    corners = [Part("square", "blue", each, each, 17, 17) for each in (40, 69.8)]
    assert [item.shape for item in read(drawn(*corners)).items] == ["square", "square"]


def test_what_resembles_nothing_is_called_other():
    half = drawn(Part("star", "red", 64, 64, 30, 30)).copy()
    half[:, 60:] = half[0, 0]
    assert [item.shape for item in read(half).items] == [OTHER]


def test_a_patch_of_another_background_is_a_thing():
    image = drawn(background="white").copy()
    image[40:80, 40:80] = BACKGROUNDS["teal"]
    (item,) = read(image).items
    assert (item.colour, item.shape, item.x, item.y) == ("teal", "square", 60, 60)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((SIZE, SIZE), np.uint8),
        np.zeros((SIZE, SIZE, 4), np.uint8),
        np.zeros((SIZE, SIZE, 3), np.float32),
    ],
    ids=lambda image: f"{image.dtype} {image.shape}",
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="expected 8-bit RGB of 128 by 128, got"):
        read(image)


def test_reading_is_repeatable_and_leaves_the_picture(worn):
    image = worn(paint(next(scenes(5, held_out=True))), seed=5)
    before = image.copy()
    assert read(image) == read(image)
    assert np.array_equal(image, before)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_any_picture_can_be_read(seed):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for image in (coarse.repeat(16, 0).repeat(16, 1), random.bytes(3 * SIZE**2)):
        if isinstance(image, bytes):
            image = np.frombuffer(image, np.uint8).reshape(SIZE, SIZE, 3)
        reading = read(image)
        assert reading.background in BACKGROUNDS or reading.background in COLOURS
        assert all(0 < item.width <= SIZE and 0 < item.height <= SIZE for item in reading.items)
        assert all(0 < item.area <= item.width * item.height for item in reading.items)
