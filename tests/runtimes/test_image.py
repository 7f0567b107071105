"""Pixels, what an image says of itself, and PNG files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from kdexport.core.errors import OptionError, RunError
from kdexport.runtimes.image import save_png, to_images, to_uint8
from kdexport.runtimes.plan import make_plan
from kdexport.runtimes.request import Request
from PIL import Image

FLOATS = st.floats(-4, 4, width=32)


@given(npst.arrays(np.float32, (2, 3, 5, 4), elements=FLOATS))
def test_pixels_are_those_of_diffusers(decoded):
    images = VaeImageProcessor().postprocess(torch.from_numpy(decoded), output_type="pil")
    np.testing.assert_array_equal(to_uint8(decoded), np.stack([np.asarray(i) for i in images]))


def test_pixels_at_every_rounding_boundary():
    levels = (np.arange(256, dtype=np.float32) + np.float32(0.5)) / np.float32(127.5) - 1
    around = [levels, np.nextafter(levels, np.float32(2)), np.nextafter(levels, np.float32(-2))]
    decoded = np.stack(around).astype(np.float32)[None]
    decoded = decoded.reshape(1, 3, 16, 16)
    images = VaeImageProcessor().postprocess(torch.from_numpy(decoded), output_type="pil")
    np.testing.assert_array_equal(to_uint8(decoded)[0], np.asarray(images[0]))
    assert to_uint8(decoded).flags.c_contiguous


def test_images_say_how_they_were_drawn(sd):
    request = Request(["a", "b"], negative_prompt=["x", "y"], images_per_prompt=2, seed=5)
    plan = make_plan(request, sd.manifest)
    pixels = np.zeros((4, 48, 64, 3), np.uint8)
    images = to_images(pixels, plan, sd.manifest)
    assert [image.info["prompt"] for image in images] == ["a", "a", "b", "b"]
    assert [image.info["negative_prompt"] for image in images] == ["x", "x", "y", "y"]
    assert images[2].info == {
        "prompt": "b",
        "negative_prompt": "y",
        "steps": "4",
        "guidance": "7.5",
        "seed": "5",
        "size": "64x48",
        "image": "3 of 4",
        "scheduler": "pndm",
        "model": "tiny",
        "software": "kdexport 0.1.0",
    }
    given_latents = np.zeros((1, 4, 6, 8), np.float32)
    plan = make_plan(Request("a", guidance=1.0, latents=given_latents), sd.manifest)
    info = to_images(pixels[:1], plan, sd.manifest)[0].info
    assert "negative_prompt" not in info
    assert "latents" in info


@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80))
def test_png_keeps_any_prompt(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("png") / "image.png"
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    image.info.update(prompt=text, seed="3", ignored=(1, 2))
    save_png(image, path)
    with Image.open(path) as read:
        assert read.text == {"prompt": text, "seed": "3"}
        np.testing.assert_array_equal(np.asarray(read), np.asarray(image))


def test_png_takes_a_prompt_with_a_null(tmp_path):
    image = Image.new("RGB", (2, 2))
    image.info["prompt"] = "a\0b"
    save_png(image, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as read:
        assert read.text["prompt"].startswith("a")


def test_png_errors(tmp_path):
    image = Image.new("RGB", (2, 2))
    with pytest.raises(OptionError, match=r"ends in \.png"):
        save_png(image, tmp_path / "a.jpg")
    with pytest.raises(OptionError, match=r"cannot be written to .* no folder '.*missing'"):
        save_png(image, tmp_path / "missing" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(RunError, match=r"cannot be written to .*folder\.png") as info:
        save_png(image, tmp_path / "folder.png")
    assert isinstance(info.value.__cause__, OSError)
