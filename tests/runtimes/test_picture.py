"""Pictures to start from: files, sizes, values and strengths, against diffusers' own code."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import load_image
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core.errors import OptionError
from kdexport.runtimes.picture import read_picture
from kdexport.runtimes.start import fit_picture, skipped_steps, to_signed
from PIL import Image


def noise_picture(height, width, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


@settings(deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 90)] * 2),
    wanted=st.tuples(*[st.integers(1, 9)] * 2),
)
def test_the_encoder_gets_what_diffusers_feeds_it(sizes, wanted):
    picture, (height, width) = noise_picture(*sizes), (8 * wanted[0], 8 * wanted[1])
    ours = to_signed(fit_picture(picture, height, width))
    theirs = VaeImageProcessor().preprocess(picture, height=height, width=width).numpy()
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    np.testing.assert_array_equal(ours, theirs)


@settings(deadline=None)
@given(steps=st.integers(1, 60), strength=st.floats(0.01, 1.0))
def test_steps_are_left_out_as_diffusers_does(steps, strength):
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(steps)
    pipeline = SimpleNamespace(scheduler=scheduler)
    timesteps, kept = StableDiffusionImg2ImgPipeline.get_timesteps(pipeline, steps, strength, "cpu")
    if kept == 0:
        with pytest.raises(OptionError, match="leaves none of"):
            skipped_steps(strength, steps)
        return
    assert skipped_steps(strength, steps) == steps - kept == steps - len(timesteps)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_files_are_read_as_diffusers_reads_them(tmp_path, mode):
    noise_picture(7, 5, mode).save(tmp_path / "a.png")
    ours = read_picture(tmp_path / "a.png")
    assert ours.mode == "RGB"
    assert ours.size == (5, 7)
    np.testing.assert_array_equal(ours, load_image(str(tmp_path / "a.png")))


def test_a_photo_is_turned_upright(tmp_path):
    picture = noise_picture(7, 5)
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    picture.save(tmp_path / "a.png", exif=exif)
    assert read_picture(tmp_path / "a.png").size == (7, 5)


@pytest.mark.parametrize(
    "content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n damaged", "cut", "folder"]
)
def test_a_file_that_is_no_image(tmp_path, content):
    path = tmp_path / "a.png"
    if content == "folder":
        path.mkdir()
    elif content == "cut":
        noise_picture(7, 5).save(path)
        path.write_bytes(path.read_bytes()[:60])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(OptionError, match=r"a\.png' is no image that can be read .*; choose"):
        read_picture(path)
