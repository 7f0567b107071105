"""Image to image and the guidance embedding: the same pictures as diffusers' pipelines."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kdexport.core.compare import compare
from kdexport.core.errors import BundleError, OptionError, RunError
from kdexport.core.manifest import load_manifest, save_manifest
from kdexport.core.options import VerifyOptions
from kdexport.runtimes.comparison import comparison_plans
from kdexport.runtimes.pipeline import Pipeline
from kdexport.runtimes.request import Request
from PIL import Image

PROMPTS = ["a golden vase", "a cat's photo, très détaillé"]
SCHEDULERS = ["pndm", "ddim", "euler", "euler-ancestral", "lcm", "dpm++2m", "heun"]
KINDS = {"kl": "latent_parameters", "tiny": "latent_sample"}


@pytest.fixture(scope="module")
def encoding(bundles, tiny_bundle, tmp_path_factory):
    """`encoding("sd", "kl")`: a bundle with an encoder and its open pipeline; write to neither."""
    made = {}

    def get(family, kind, **options):
        key = (family, kind, *options)
        if key not in made:
            folder = tmp_path_factory.mktemp("encoding") / "bundle"
            tiny = bundles(family).tiny
            tiny_bundle.write_bundle(tiny, folder, encoder=KINDS[kind], **options)
            made[key] = SimpleNamespace(tiny=tiny, folder=folder, pipe=Pipeline.load(folder))
        return made[key]

    yield get
    for each in made.values():
        each.pipe.close()


@pytest.fixture
def theirs(tiny_bundle, tiny_diffusers):
    """Makes diffusers' image to image pipeline over such a bundle."""

    def make(bundle, scheduler, kind="kl", **options):
        return tiny_diffusers.make_pipeline(
            bundle.tiny,
            bundle.folder,
            scheduler,
            tiny_bundle.BASE_CONFIG,
            tiny_bundle.SCALING,
            zero_negative=bundle.tiny.family == "sdxl",
            sampled=kind == "kl",
            **options,
        )

    return make


def picture(height, width):
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 255 // height, columns * 255 // width, (rows * columns) % 256], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def draw_theirs(pipe, seed, **options):
    """Latents after each call, what the U-Net saw at each call, and the final pixels."""
    latents = []
    pipe.unet.seen.clear()

    def keep(_pipe, _index, _timestep, values):
        latents.append(values["latents"].numpy().copy())
        return {}

    images = pipe(
        output_type="pil",
        generator=torch.Generator().manual_seed(seed),
        callback_on_step_end=keep,
        **options,
    ).images
    seen = [each.numpy() for each in pipe.unet.seen]
    return latents, seen, np.stack([np.asarray(image) for image in images])


def assert_same(pipe, request, reference):
    latents, seen, pixels = reference
    steps = list(pipe.generate(request))
    assert len(steps) == len(latents) == len(seen)
    for step, expected, fed in zip(steps, latents, seen, strict=True):
        rows = np.concatenate([step.sample] * 2) if step.plan.guided else step.sample
        assert compare(rows, fed).relative_l2 < 2e-5
        assert compare(step.latents, expected).relative_l2 < 2e-5
    ours = pipe.decode(steps[-1].latents)
    assert ours.shape == pixels.shape
    assert np.abs(ours.astype(int) - pixels.astype(int)).max() <= 1
    # So that the comparison says something.
    assert pixels.std() > 10


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_draws_what_diffusers_draws(encoding, theirs, family, scheduler, strength):
    bundle, init = encoding(family, "kl"), picture(48, 64)
    request = Request(
        PROMPTS[0],
        steps=6,
        guidance=3.0,
        seed=3,
        scheduler=scheduler,
        init=init,
        strength=strength,
    )
    reference = draw_theirs(
        theirs(bundle, scheduler, from_picture=True),
        seed=3,
        prompt=PROMPTS[0],
        image=init,
        strength=strength,
        num_inference_steps=6,
        guidance_scale=3.0,
    )
    assert_same(bundle.pipe, request, reference)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("images", [1, 2])
def test_batches_share_one_sample_of_the_picture(encoding, theirs, kind, images):
    bundle, init = encoding("sd", kind), picture(40, 48)
    request = Request(
        PROMPTS,
        steps=4,
        guidance=1.0,
        seed=8,
        scheduler="euler-ancestral",
        images_per_prompt=images,
        init=init,
        strength=0.75,
    )
    reference = draw_theirs(
        theirs(bundle, "euler-ancestral", kind, from_picture=True),
        seed=8,
        prompt=PROMPTS,
        image=init,
        strength=0.75,
        num_inference_steps=4,
        guidance_scale=1.0,
        num_images_per_prompt=images,
    )
    assert_same(bundle.pipe, request, reference)


def test_the_defaults_are_those_of_diffusers(encoding, theirs):
    """Strength by family, and the picture's own size, rounded down to what the VAE takes."""
    for family in ("sd", "sdxl"):
        bundle, init = encoding(family, "kl"), picture(53, 47)
        request = Request("a", steps=6, guidance=2.0, seed=1, init=init)
        options = {"num_inference_steps": 6, "guidance_scale": 2.0}
        pipe = theirs(bundle, "pndm", from_picture=True)
        assert_same(
            bundle.pipe, request, draw_theirs(pipe, seed=1, prompt="a", image=init, **options)
        )
        assert bundle.pipe.plan(request).latent_shape == (1, 4, 6, 5)


def test_another_size_resizes_the_picture(encoding, theirs):
    bundle, init = encoding("sd", "kl"), picture(30, 90)
    request = Request("a", steps=4, seed=1, guidance=2.0, init=init, height=48, width=32)
    resized = init.resize((32, 48), Image.Resampling.LANCZOS)
    options = {"num_inference_steps": 4, "guidance_scale": 2.0}
    pipe = theirs(bundle, "pndm", from_picture=True)
    reference = draw_theirs(pipe, seed=1, prompt="a", image=resized, strength=0.8, **options)
    assert_same(bundle.pipe, request, reference)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("from_picture", [False, True])
@pytest.mark.parametrize("guidance", [0.0, 1.0, 8.0])
def test_guidance_as_an_embedding(encoding, theirs, tiny_bundle, family, from_picture, guidance):
    bundle, init = encoding(family, "kl", embedding=True), picture(48, 64)
    request = Request(
        PROMPTS, steps=4, guidance=guidance, seed=3, scheduler="lcm", height=48, width=64
    )
    options = {"prompt": PROMPTS, "num_inference_steps": 4, "guidance_scale": guidance}
    if from_picture:
        request = replace(request, init=init, strength=0.5)
        options |= {"image": init, "strength": 0.5}
    else:
        options |= {"height": 48, "width": 64}
    pipe = theirs(bundle, "lcm", from_picture=from_picture, embedding=tiny_bundle.GUIDANCE)
    assert_same(bundle.pipe, request, draw_theirs(pipe, seed=3, **options))
    plan = bundle.pipe.plan(request)
    assert not plan.guided
    assert plan.negatives is None


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("negative", [None, "blurry"])
def test_clip_skip_is_for_prompts_only(encoding, theirs, family, negative):
    bundle = encoding(family, "kl", skip=True)
    request = Request(PROMPTS[0], negative, steps=4, guidance=4.0, seed=2, height=48, width=64)
    options = {"num_inference_steps": 4, "guidance_scale": 4.0, "height": 48, "width": 64}
    options |= {"prompt": PROMPTS[0], "negative_prompt": negative}
    skipped = draw_theirs(theirs(bundle, "pndm"), seed=2, clip_skip=1, **options)
    assert_same(bundle.pipe, request, skipped)
    plain = draw_theirs(theirs(bundle, "pndm"), seed=2, **options)
    assert compare(skipped[0][-1], plain[0][-1]).relative_l2 > 1e-3


def test_the_picture_says_how_it_was_drawn(encoding):
    pipe = encoding("sd", "kl").pipe
    image = pipe("a", steps=4, seed=0, init=np.asarray(picture(48, 48)), strength=0.5)
    assert image.size == (48, 48)
    assert image.info["strength"] == "0.5"
    assert image.info["init"] == "given by the caller"
    assert "strength" not in pipe("a", steps=4, seed=0).info


def test_the_encoder_is_opened_for_pictures_only(encoding):
    folder = encoding("sd", "kl").folder
    for low_memory in (False, True):
        with Pipeline.load(folder, low_memory=low_memory) as pipe:
            encoder = pipe._components._runners["vae_encoder"]
            pipe("a", steps=1)
            assert not encoder.is_open
            pipe("a", steps=1, init=picture(48, 48), strength=1.0)
            assert encoder.is_open is not low_memory
        assert not encoder.is_open


def test_the_callers_picture_is_not_kept(encoding):
    pipe, pixels = encoding("sd", "kl").pipe, np.asarray(picture(48, 48)).copy()
    plan = pipe.plan(Request("a", steps=4, init=pixels))
    expected = plan.init.copy()
    pixels[:] = 0
    np.testing.assert_array_equal(plan.init, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.5}, "A strength needs a picture"),
        ({"init": "a.png"}, "A starting picture must be a Pillow image or an 8-bit array, not str"),
        (
            {"init": np.zeros((8, 8, 4), np.uint8)},
            r"must be 8-bit .* not uint8 and \(8, 8, 4\)",
        ),
        ({"init": np.zeros((8, 8, 3), np.float32)}, "not float32"),
        ({"init": picture(8, 8), "latents": np.zeros((1, 4, 1, 1))}, "leave one of them out"),
        ({"init": picture(8, 8), "strength": 0.0}, "above 0 and at most 1, not 0.0"),
        ({"init": picture(8, 8), "strength": 1.01}, "at most 1, not 1.01"),
        ({"init": picture(8, 8), "strength": float("nan")}, "not nan"),
        ({"init": picture(8, 8), "strength": "1"}, "not '1'"),
    ],
)
def test_a_start_that_makes_no_sense(options, message):
    with pytest.raises(OptionError, match=message):
        Request("a", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": picture(7, 90)}, r"picture of 7 x 90 pixels is smaller .* multiples of 8"),
        ({"init": picture(48, 48), "strength": 0.2}, "0.2 leaves none of 4 steps; choose a larger"),
        ({"init": picture(48, 48), "height": 44}, "multiple of 8 pixels, not 44"),
    ],
)
def test_a_start_that_the_bundle_cannot_make(encoding, options, message):
    with pytest.raises(OptionError, match=message):
        encoding("sd", "kl").pipe.plan(Request("a", steps=4, **options))


def test_a_bundle_without_an_encoder(sd):
    with Pipeline.load(sd.folder) as pipe, pytest.raises(OptionError, match="with --with-encoder"):
        pipe("a", init=picture(48, 48))


def test_a_bundle_whose_samplers_have_no_starts(encoding, tmp_path):
    folder = shutil.copytree(encoding("sd", "kl").folder, tmp_path / "copy")
    manifest = load_manifest(folder)
    first, *others = manifest.samplers
    save_manifest(replace(manifest, samplers=(replace(first, image=None), *others)), folder)
    with Pipeline.load(folder) as pipe:
        pipe("a", steps=4, init=picture(48, 48), scheduler="ddim")
        with pytest.raises(BundleError, match="'pndm' of this bundle cannot start from a picture"):
            pipe("a", steps=4, init=picture(48, 48))


def test_a_broken_encoder_is_named(bundles, tiny_bundle, tmp_path):
    tiny = bundles("sd").tiny
    spoilt = np.full_like(tiny.arrays["encode"], np.nan)
    tiny_bundle.write_bundle(
        replace(tiny, arrays={**tiny.arrays, "encode": spoilt}),
        tmp_path / "spoilt",
        encoder="latent_parameters",
    )
    with (
        Pipeline.load(tmp_path / "spoilt") as pipe,
        pytest.raises(RunError, match="The vae_encoder gave NaN"),
    ):
        pipe("a", steps=4, init=picture(48, 48))


def test_a_static_bundle_resizes_the_picture(encoding, tiny_bundle, tmp_path):
    bundle = encoding("sd", "kl")
    manifest = tiny_bundle.write_bundle(
        bundle.tiny, tmp_path / "static", batch=1, encoder="latent_parameters"
    )
    fixed = replace(manifest, shapes=replace(manifest.shapes, height=48, width=40))
    save_manifest(fixed, tmp_path / "static")
    with Pipeline.load(tmp_path / "static") as static:
        options = {"steps": 4, "seed": 0, "guidance": 1.0, "init": picture(99, 99)}
        image = static("a", **options)
        assert image.tobytes() == bundle.pipe("a", height=48, width=40, **options).tobytes()


@pytest.mark.parametrize(("steps", "strength"), [(1, 1.0), (4, 0.6)])
def test_verification_also_starts_from_a_picture(encoding, steps, strength):
    manifest = load_manifest(encoding("sd", "kl").folder)
    plans = comparison_plans(manifest, VerifyOptions(steps=steps))
    assert [plan.init is None for plan in plans] == [True, True, False]
    assert plans[2].strength == strength
    assert plans[2].latent_shape == plans[0].latent_shape
    assert plans[2].init.std() > 40
