import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kdexport.core.compare import (
    GATES,
    Gates,
    compare,
    compare_images,
    expected_gates,
    gates_for,
)
from kdexport.core.errors import OptionError

ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(), elements=st.floats(-1e3, 1e3, width=32))


@given(ARRAYS)
def test_an_array_equals_itself(array):
    difference = compare(array, array)
    assert (difference.max_abs, difference.relative_l2, difference.psnr_db) == (0.0, 0.0, math.inf)
    assert difference.finite


@given(ARRAYS, st.floats(1e-3, 10))
def test_relative_l2_is_the_scale_of_a_scaled_error(array, scale):
    array = array + np.float32(2000)  # away from zero
    difference = compare(array * (1 + scale), array.astype(np.float64))
    assert difference.relative_l2 == pytest.approx(scale, rel=1e-3)
    assert difference.cosine == pytest.approx(1.0, abs=1e-6)


def test_figures_of_a_known_error():
    reference = np.array([3.0, 4.0])
    difference = compare(np.array([3.0, 4.5]), reference)
    assert difference.max_abs == 0.5
    assert difference.relative_l2 == pytest.approx(0.1)
    assert difference.psnr_db == pytest.approx(20 * math.log10(4 / math.sqrt(0.125)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_anything_infinite_fails_every_gate(bad, side):
    arrays = [np.zeros(3), np.zeros(3)]
    arrays[side][1] = bad
    difference = compare(*arrays)
    assert not difference.finite
    assert not any(gates.component_passes(difference) for gates in GATES.values())
    assert difference.to_json()["psnr_db"] is None


def test_zero_reference():
    difference = compare(np.ones(2), np.zeros(2))
    assert difference.relative_l2 == math.inf
    assert not GATES["fp32"].component_passes(difference)


@pytest.mark.parametrize(
    ("error", "passes"), [(0.9e-4, True), (1.1e-4, False)], ids=["just below", "just above"]
)
def test_fp32_gate(error, passes):
    reference = np.full(1000, 2.0)
    assert GATES["fp32"].component_passes(compare(reference * (1 + error), reference)) is passes


@pytest.mark.parametrize(("psnr", "passes"), [(50.5, True), (49.5, False)])
def test_fp16_gate(psnr, passes):
    reference = np.ones(1000)
    assert GATES["fp16"].component_passes(compare(reference + 10 ** (-psnr / 20), reference)) is (
        passes
    )


def test_gates_say_what_they_ask():
    assert Gates(1e-4, 50.0, 45.0).describe() == "relative L2 ≤ 0.0001 and PSNR ≥ 50 dB"
    with pytest.raises(OptionError, match=r"fp32, mixed, fp16, bf16, palette8, .* or int4"):
        gates_for("int5")


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="cannot compare"):
        compare(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="uint8"):
        compare_images(np.zeros((4, 4, 3)), np.zeros((4, 4, 3)))


def test_equal_images():
    image = np.random.default_rng(0).integers(0, 256, (32, 24, 3), dtype=np.uint8)
    difference = compare_images(image, image)
    assert (difference.max_abs, difference.psnr_db) == (0, math.inf)
    assert difference.ssim == pytest.approx(1.0)
    assert GATES["fp32"].image_passes(difference)


def test_ssim_falls_with_structure_not_with_brightness():
    random = np.random.default_rng(0)
    image = random.integers(60, 180, (64, 64, 3), dtype=np.uint8)
    brighter = compare_images(image + np.uint8(10), image).ssim
    shuffled = random.permutation(image.reshape(-1, 3)).reshape(image.shape)
    assert compare_images(shuffled, image).ssim < 0.2 < 0.9 < brighter


def test_psnr_of_one_level():
    image = np.full((8, 8, 3), 100, np.uint8)
    difference = compare_images(image + np.uint8(1), image)
    assert difference.max_abs == 1
    assert difference.psnr_db == pytest.approx(48.13, abs=0.01)


@pytest.mark.parametrize(
    ("precision", "expected", "component", "image"),
    [
        ("fp32", (70.0, 60.0), 62.0, 45.0),
        ("fp16", (70.0, 60.0), 50.0, 35.0),
        ("fp16", (40.0, 30.0), 32.0, 22.0),
    ],
)
def test_recipes_are_held_near_what_they_reached(precision, expected, component, image):
    reached = dict(zip(("unet_psnr_db", "image_psnr_db"), expected, strict=True))
    assert expected_gates(precision, reached) == Gates(None, component, image)
