"""Control pictures: what is refused, and the pixels against diffusers' own preprocessing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from diffusers.image_processor import VaeImageProcessor
from kdexport.core.checkpoint import ControlSource
from kdexport.core.errors import BundleError, CheckpointError, OptionError, RunError
from kdexport.core.manifest import ControlRecord, TensorSpec
from kdexport.core.options import VerifyOptions
from kdexport.runtimes.base import Signature
from kdexport.runtimes.comparison import compared_calls, comparison_plans
from kdexport.runtimes.control import Control, ControlNet, control_pixels
from kdexport.runtimes.control_ref import control_arguments, require_same_control
from kdexport.runtimes.image import describe
from kdexport.runtimes.picture import sample_picture
from kdexport.runtimes.pipeline import Pipeline
from kdexport.runtimes.plan import make_plan
from kdexport.runtimes.request import Request
from PIL import Image, ImageOps

MODES = ("RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "I", "F")
SIZES = [(75, 101), (48, 64), (16, 8), (304, 8)]


@pytest.fixture
def manifest(sd):
    return replace(sd.manifest, control=ControlRecord(scale=0.8, invert=False, channels=3))


def control(*pictures, invert=False):
    return Control(pictures or (sample_picture(),), 1.0, invert)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pixels_are_those_of_diffusers(mode, height, width):
    picture = sample_picture().convert(mode)
    ours = control_pixels(control(picture), height, width)
    processor = VaeImageProcessor(vae_scale_factor=8, do_convert_rgb=True, do_normalize=False)
    # Its sizes are multiples of 8, else rounded down; ours are by contract.
    sizes = {"height": height, "width": width}
    if height % 8 or width % 8:
        processor = VaeImageProcessor(vae_scale_factor=1, do_convert_rgb=True, do_normalize=False)
    theirs = processor.preprocess(picture, **sizes).numpy()
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "1"])
def test_a_picture_is_inverted_before_it_is_resized(mode):
    """As the demo of SDXS-Sketch: RGB, 255 minus it, then what the pipeline does."""
    picture = sample_picture().convert(mode)
    ours = control_pixels(control(picture, invert=True), 48, 64)
    processor = VaeImageProcessor(do_convert_rgb=True, do_normalize=False)
    inverted = Image.fromarray(255 - np.array(picture.convert("RGB")))
    theirs = processor.preprocess(inverted, height=48, width=64).numpy()
    np.testing.assert_array_equal(ours, theirs)
    assert np.abs(ours - control_pixels(control(picture), 48, 64)).max() > 0.5


def test_arrays_are_pictures(manifest):
    pixels = np.asarray(sample_picture())
    for array in (pixels, pixels[..., 0]):
        plan = make_plan(Request("a", control=array), manifest)
        expected = control_pixels(control(Image.fromarray(array)), 48, 64)
        np.testing.assert_array_equal(control_pixels(plan.control, 48, 64), expected)


def test_a_plan_takes_copies_and_the_default_scale(manifest):
    picture, pixels = sample_picture(), np.array(sample_picture())
    plan = make_plan(Request(["a", "b"], control=[picture, pixels]), manifest)
    before = control_pixels(plan.control, 48, 64)
    picture.paste((0, 0, 0), (0, 0, 50, 50))
    pixels[:] = 0
    np.testing.assert_array_equal(control_pixels(plan.control, 48, 64), before)
    assert (plan.control.scale, plan.control.invert) == (0.8, False)
    assert make_plan(Request("a", control=picture, control_scale=0), manifest).control.scale == 0
    inverting = replace(manifest, control=ControlRecord(1.0, True, 3))
    assert make_plan(Request("a", control=picture), inverting).control.invert


def test_a_picture_says_that_it_was_steered(manifest):
    plan = make_plan(Request("a", control=sample_picture(), control_scale=0.25), manifest)
    said = describe(plan, 0, manifest)
    assert (said["control"], said["control_scale"]) == ("a picture given by the caller", "0.25")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"needs a picture to draw after; give one \(--control FILE"),
        ({"control": "a.png"}, "must be a Pillow image or an 8-bit array, not str"),
        ({"control": Path("a.png")}, "array, not .*Path"),
        ({"control": [None]}, "not NoneType"),
        ({"control": []}, "1 prompts but 0 control pictures; give one for all"),
        ({"control": [sample_picture()] * 2}, "1 prompts but 2 control pictures"),
        ({"control": np.zeros((8, 8, 3))}, r"8-bit and .* not float64 and \(8, 8, 3\)"),
        ({"control": np.zeros((8, 8, 4), np.uint8)}, r"not uint8 and \(8, 8, 4\)"),
        ({"control": np.zeros((1, 8, 8, 3), np.uint8)}, r"not uint8 and \(1, 8, 8, 3\)"),
        ({"control": Image.new("RGB", (0, 8))}, r"must have pixels, but its size is \(0, 8\)"),
        ({"control": sample_picture(), "height": 44}, "height must be a multiple of 8 pixels"),
    ],
)
def test_a_run_that_cannot_be_steered(manifest, options, message):
    with pytest.raises(OptionError, match=message):
        make_plan(Request("a", **options), manifest)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "1"])
def test_a_scale_that_is_no_number(scale):
    with pytest.raises(OptionError, match="The control scale must be a finite number, not"):
        Request("a", control_scale=scale)


@pytest.mark.parametrize("options", [{"control": sample_picture()}, {"control_scale": 1.0}])
def test_a_bundle_without_a_controlnet(sd, options):
    with pytest.raises(OptionError, match="has no ControlNet, so it takes neither"):
        make_plan(Request("a", **options), sd.manifest)


def test_a_manifest_that_speaks_of_a_controlnet_that_is_not_there(sd, manifest):
    with Pipeline.load(sd.folder) as pipeline:
        pipeline.manifest = manifest
        with pytest.raises(BundleError, match="no component 'controlnet'; export the model again"):
            next(pipeline.generate(Request("a", control=sample_picture(), steps=1)))


class Doubling:
    """A runner that gives back the pictures, doubled, and says what it was fed."""

    def __init__(self, value=2.0):
        names = ("sample", "controlnet_cond", "conditioning_scale")
        specs = tuple(TensorSpec(name, "float32", ()) for name in names)
        self.signature = Signature(specs, (TensorSpec("mid_block_residual", "float32", ()),))
        self.fed, self.value = None, np.float32(value)

    def describe(self):
        return self.signature

    def run(self, feed, outputs):
        self.fed = feed
        return dict.fromkeys(outputs, self.value * feed["controlnet_cond"])


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("single", [True, False])
def test_rows_lie_as_those_of_the_text(manifest, guidance, single):
    pictures = [sample_picture(), ImageOps.invert(sample_picture())]
    request = Request(
        ["a", "b"],
        guidance=guidance,
        images_per_prompt=2,
        control=pictures[0] if single else pictures,
    )
    plan, runner = make_plan(request, manifest), Doubling()
    feed = {"sample": np.zeros(1, np.float32), "text_embeds": np.zeros(1, np.float32)}
    found = ControlNet(runner, plan, plan.control)(feed)["mid_block_residual"]
    # diffusers: repeat_interleave, then twice with guidance.
    first, second = (control_pixels(control(each), plan.height, plan.width) for each in pictures)
    rows = [first] * 4 if single else [first] * 2 + [second] * 2
    rows = np.concatenate(rows * (2 if guidance > 1 else 1))
    np.testing.assert_array_equal(found, 2 * rows)
    # What it does not take is not passed on.
    assert set(runner.fed) == {"sample", "controlnet_cond", "conditioning_scale"}
    assert runner.fed["conditioning_scale"] == np.float32(0.8)


def test_residuals_that_are_not_finite(manifest):
    plan = make_plan(Request("a", control=sample_picture()), manifest)
    runner = Doubling(np.nan)
    with pytest.raises(RunError, match="The controlnet gave NaN"):
        ControlNet(runner, plan, plan.control)({"sample": np.zeros(1, np.float32)})


def test_a_verification_brings_its_own_picture(manifest, sd):
    plans = comparison_plans(manifest, VerifyOptions(steps=1))
    assert len(plans) == 2
    for plan in plans:
        (picture,) = plan.control.pictures
        assert picture.size != (plan.width, plan.height)
    assert all(plan.control is None for plan in comparison_plans(sd.manifest, VerifyOptions(1)))


@pytest.mark.parametrize(
    ("count", "compared"), [(1, (0,)), (2, (0, 1)), (3, (0, 1, 2)), (51, (0, 25, 50))]
)
def test_which_calls_are_compared(count, compared):
    assert compared_calls(count) == compared
    # Picking again from what was picked changes nothing.
    assert compared_calls(len(compared)) == tuple(range(len(compared)))


def test_what_the_reference_is_told(manifest, sd):
    plan = make_plan(Request("a", control=sample_picture(), control_scale=1), manifest)
    steered = SimpleNamespace(model="m", control=ControlSource(None, 0.3, True))
    told = control_arguments(steered, plan)
    np.testing.assert_array_equal(told["image"][0], ImageOps.invert(sample_picture()))
    assert told["controlnet_conditioning_scale"] == 1.0
    assert isinstance(told["controlnet_conditioning_scale"], float)

    plain = SimpleNamespace(model="m", control=None)
    unsteered = make_plan(Request("a"), sd.manifest)
    assert control_arguments(plain, unsteered) == {}
    require_same_control(plain, unsteered)
    require_same_control(steered, plan)
    with pytest.raises(CheckpointError, match="The bundle has a ControlNet and the reference has"):
        require_same_control(plain, plan)
    with pytest.raises(CheckpointError, match="The reference has a ControlNet and the bundle has"):
        require_same_control(steered, unsteered)
