import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.runtimes.report.pictures import LEAST_SCALE, data_uri, heat_map
from PIL import Image


def test_a_picture_stays_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    kind, text = data_uri(picture).split(",")
    assert kind == "data:image/png;base64"
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) == picture).all()


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2))
def test_the_largest_difference_is_the_brightest(one, other, channel):
    ours, theirs = (np.full((2, 3, 3), 7, np.uint8) for _ in range(2))
    ours[0, 0, channel], theirs[0, 0, channel] = one, other
    heat, scale = heat_map(ours, theirs)
    level = abs(one - other)
    assert scale == max(level, LEAST_SCALE)
    # Where they are equal it is black.
    assert heat[1].sum() == 3 * 4
    brightness = heat.astype(int).sum(axis=2)
    assert brightness[0, 0] == brightness.max()
    if level >= LEAST_SCALE:
        assert tuple(heat[0, 0]) == (252, 255, 164)


def test_brighter_means_more():
    theirs = np.zeros((1, 256, 3), np.uint8)
    ours = theirs.copy()
    ours[0, :, 1] = np.arange(256)
    heat, _ = heat_map(ours, theirs)
    luma = heat[0].astype(float) @ (0.299, 0.587, 0.114)
    assert (np.diff(luma) > -0.6).all()
    assert luma[-1] > 240


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 1, 3)])
def test_small_pictures(shape):
    picture = np.zeros(shape, np.uint8)
    assert heat_map(picture, picture)[0].shape == shape
