"""Requests, and what the manifest makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import OptionError
from kdexport.core.manifest import Shapes
from kdexport.runtimes.plan import make_plan
from kdexport.runtimes.request import Request


def test_blanks_take_the_defaults(sd, sdxl):
    plan = make_plan(Request("a cat"), sd.manifest)
    defaults = sd.manifest.defaults
    assert plan.prompts == ("a cat",)
    assert plan.negatives == ("",)
    assert (plan.steps, plan.guidance) == (defaults.steps, defaults.guidance)
    assert (plan.height, plan.width, plan.scheduler) == (48, 64, "pndm")
    assert plan.latent_shape == (1, 4, 6, 8)
    assert plan.latents is None
    assert plan.guided
    assert make_plan(Request("a cat"), sdxl.manifest).negatives is None


def test_what_is_asked_for_wins(sd):
    request = Request(
        ["a", "b"],
        negative_prompt="c",
        steps=2,
        guidance=2.5,
        seed=np.int64(9),
        height=80,
        width=8,
        images_per_prompt=3,
        scheduler="lcm",
    )
    plan = make_plan(request, sd.manifest)
    assert plan.negatives == ("c", "c")
    assert (plan.steps, plan.guidance, plan.seed) == (2, 2.5, 9)
    assert plan.scheduler == "lcm"
    assert plan.latent_shape == (6, 4, 10, 1)


@pytest.mark.parametrize(
    ("family", "negative", "default", "expected"),
    [
        ("sd", None, None, ("",)),
        ("sd", None, "bad", ("bad",)),
        ("sd", "", "bad", ("",)),
        ("sd", "worse", "bad", ("worse",)),
        ("sdxl", None, None, None),
        ("sdxl", None, "bad", ("bad",)),
        ("sdxl", "", None, ("",)),
        ("sdxl", ["worse"], "bad", ("worse",)),
    ],
)
def test_negative_prompt(bundles, family, negative, default, expected):
    manifest = bundles(family).manifest
    manifest = replace(manifest, defaults=replace(manifest.defaults, negative_prompt=default))
    assert make_plan(Request("a", negative_prompt=negative), manifest).negatives == expected
    unguided = Request("a", negative_prompt=negative, guidance=1.0)
    assert make_plan(unguided, manifest).negatives is None


@pytest.mark.parametrize(
    ("guidance", "guided"), [(0, False), (1, False), (1.01, True), (-3, False)]
)
def test_guidance_is_on_above_one(sd, guidance, guided):
    assert make_plan(Request("a", guidance=guidance), sd.manifest).guided is guided


def test_a_random_seed_differs_from_run_to_run(sd):
    seeds = {make_plan(Request("a"), sd.manifest).seed for _ in range(8)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_latents_are_copied_to_float32(sd):
    latents = np.zeros((1, 4, 6, 8), np.float64)
    plan = make_plan(Request("a", latents=latents), sd.manifest)
    latents[:] = 5
    assert plan.latents.dtype == np.float32
    assert not plan.latents.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": []}, "There is no prompt"),
        ({"prompt": ["a", 3]}, "A prompt must be a string, not int"),
        ({"prompt": "a\ud800"}, "lone surrogate"),
        ({"prompt": ["a", "b"], "negative_prompt": ["c"]}, "2 prompts but 1 negative"),
        ({"negative_prompt": [None]}, "A negative prompt must be a string"),
        ({"negative_prompt": "\udfff"}, "The negative prompt .* lone surrogate"),
        ({"steps": 0}, "'steps' must be a whole number of at least 1, not 0"),
        ({"steps": 2.5}, "not 2.5"),
        ({"height": -8}, "'height' must be"),
        ({"width": "64"}, "not '64'"),
        ({"images_per_prompt": 0}, "'images_per_prompt' must be"),
        ({"guidance": float("nan")}, "must be a finite number, not nan"),
        ({"guidance": float("inf")}, "not inf"),
        ({"guidance": "7"}, "not '7'"),
        ({"seed": 2**64}, "seed"),
        ({"seed": 1.5}, "seed"),
    ],
)
def test_a_request_that_makes_no_sense(options, message):
    with pytest.raises(OptionError, match=message):
        Request(**{"prompt": "a", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 44}, "height must be a multiple of 8 pixels, not 44; choose 40 or 48"),
        ({"width": 65}, "width must be a multiple of 8 pixels, not 65; choose 64 or 72"),
        ({"width": 3}, "not 3; choose 8"),
        ({"latents": np.zeros((4, 6, 8), np.float32)}, r"shape \(1, 4, 6, 8\).*not \(4, 6, 8\)"),
        ({"latents": np.zeros((1, 4, 6, 9), np.float32)}, r"not \(1, 4, 6, 9\)"),
        ({"latents": np.zeros((1, 4, 6, 8), np.int64)}, "finite floating-point"),
        ({"latents": np.full((1, 4, 6, 8), np.nan)}, "finite floating-point"),
    ],
)
def test_a_request_that_the_bundle_cannot_draw(sd, options, message):
    with pytest.raises(OptionError, match=message):
        make_plan(Request("a", **options), sd.manifest)


@given(size=st.integers(1, 4096), multiple=st.sampled_from([8, 16, 32, 64]))
def test_the_sizes_named_are_valid_and_nearest(sd, size, multiple):
    manifest = replace(sd.manifest, shapes=Shapes(multiple, None, None, None))
    request = Request("a", height=size, width=multiple)
    if size % multiple == 0:
        assert make_plan(request, manifest).height == size
        return
    with pytest.raises(OptionError) as info:
        make_plan(request, manifest)
    named = str(info.value).split("choose ")[1].rstrip(".")
    for value in map(int, named.split(" or ")):
        assert make_plan(Request("a", height=value, width=multiple), manifest).height == value
        assert abs(value - size) < multiple


def test_static_size(sd):
    manifest = replace(sd.manifest, shapes=Shapes(8, 512, 768, None))
    plan = make_plan(Request("a"), manifest)
    assert (plan.height, plan.width) == (512, 768)
    assert make_plan(Request("a", height=512, width=768), manifest).width == 768
    with pytest.raises(OptionError, match="height of 512 pixels only, not 768"):
        make_plan(Request("a", height=768), manifest)


@pytest.mark.parametrize(
    ("images", "guidance", "batch", "fits"),
    [(1, 7.5, 2, True), (2, 1.0, 2, True), (1, 1.0, 2, False), (2, 7.5, 2, False), (1, 0, 1, True)],
)
def test_static_batch_counts_unet_rows(sd, images, guidance, batch, fits):
    manifest = replace(sd.manifest, shapes=Shapes(8, None, None, batch))
    request = Request("a", guidance=guidance, images_per_prompt=images)
    if fits:
        assert make_plan(request, manifest).latent_shape[0] == images
        return
    with pytest.raises(OptionError, match=rf"takes {batch} rows, but .* need"):
        make_plan(request, manifest)
