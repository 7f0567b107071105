"""The pipeline against diffusers' own: same prompt, same seed, same picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kdexport.core.compare import compare
from kdexport.runtimes.pipeline import Pipeline
from kdexport.runtimes.request import Request

PROMPTS = ["a golden vase", "a cat's photo, très détaillé", "purple dragon"]


@pytest.fixture(scope="module")
def pipes(bundles):
    """Pipelines by family, kept open."""
    made = {family: Pipeline.load(bundles(family).folder) for family in ("sd", "sdxl")}
    yield made
    for pipe in made.values():
        pipe.close()


@pytest.fixture
def theirs(bundles, tiny_bundle, tiny_diffusers):
    """Makes diffusers' pipeline for a family and scheduler."""

    def make(family, scheduler, zero_negative=None):
        bundle = bundles(family)
        return tiny_diffusers.make_pipeline(
            bundle.tiny,
            bundle.folder,
            scheduler,
            tiny_bundle.BASE_CONFIG,
            tiny_bundle.SCALING,
            bundle.manifest.zero_negative if zero_negative is None else zero_negative,
        )

    return make


def draw_theirs(pipe, **options):
    """Latents after each call, the final pixels, and what the U-Net saw at each call."""
    seen, latents = pipe.unet.seen, []
    seen.clear()

    def keep(_pipe, _index, _timestep, values):
        latents.append(values["latents"].numpy().copy())
        return {}

    seed = options.pop("seed")
    images = pipe(
        output_type="pil",
        generator=torch.Generator().manual_seed(seed),
        callback_on_step_end=keep,
        **options,
    ).images
    return latents, np.stack([np.asarray(image) for image in images]), [s.numpy() for s in seen]


def draw_ours(pipe, **options):
    steps = list(pipe.generate(Request(**options)))
    return steps, pipe.decode(steps[-1].latents)


def assert_same(ours, theirs, guided):
    steps, pixels = ours
    their_latents, their_pixels, their_inputs = theirs
    assert len(steps) == len(their_latents) == len(their_inputs)
    for step, latents, fed in zip(steps, their_latents, their_inputs, strict=True):
        rows = np.concatenate([step.sample] * 2) if guided else step.sample
        assert compare(rows, fed).relative_l2 < 2e-5
        assert compare(step.latents, latents).relative_l2 < 2e-5
    assert steps[-1].total == len(steps)
    assert pixels.shape == their_pixels.shape
    assert np.abs(pixels.astype(int) - their_pixels.astype(int)).max() <= 1
    assert (pixels == their_pixels).mean() > 0.98
    middle = (their_pixels > 5) & (their_pixels < 250)
    # So that the comparison says something.
    assert middle.mean() > 0.2
    assert their_pixels.std() > 10


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize(
    "scheduler", ["pndm", "ddim", "euler", "euler-ancestral", "lcm", "dpm++2m", "heun"]
)
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_draws_what_diffusers_draws(pipes, theirs, family, scheduler, guidance):
    ours = draw_ours(
        pipes[family],
        prompt=PROMPTS[0],
        steps=4,
        guidance=guidance,
        seed=3,
        height=48,
        width=64,
        scheduler=scheduler,
    )
    reference = draw_theirs(
        theirs(family, scheduler),
        prompt=PROMPTS[0],
        num_inference_steps=4,
        guidance_scale=guidance,
        seed=3,
        height=48,
        width=64,
    )
    assert_same(ours, reference, guided=guidance > 1)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("negative", [None, "", "blurry, bad anatomy"])
@pytest.mark.parametrize("images", [1, 3])
def test_batches_and_negative_prompts(pipes, theirs, family, negative, images):
    scheduler = "euler-ancestral"
    negatives = None if negative is None else [negative, "purple", negative]
    ours = draw_ours(
        pipes[family],
        prompt=PROMPTS,
        negative_prompt=negatives,
        steps=4,
        guidance=3.0,
        seed=11,
        height=40,
        width=56,
        images_per_prompt=images,
        scheduler=scheduler,
    )
    reference = draw_theirs(
        theirs(family, scheduler),
        prompt=PROMPTS,
        negative_prompt=negatives,
        num_inference_steps=4,
        guidance_scale=3.0,
        seed=11,
        height=40,
        width=56,
        num_images_per_prompt=images,
    )
    assert_same(ours, reference, guided=True)


def test_sdxl_without_zero_negative_encodes_the_empty_string(
    bundles, tiny_bundle, theirs, tmp_path
):
    tiny_bundle.write_bundle(bundles("sdxl").tiny, tmp_path / "b", zero_negative=False)
    with Pipeline.load(tmp_path / "b") as pipe:
        ours = draw_ours(pipe, prompt="a cat", steps=4, guidance=4.0, seed=1, height=48, width=48)
    options = {"num_inference_steps": 4, "guidance_scale": 4.0, "height": 48, "width": 48}
    pipe = theirs("sdxl", "pndm", zero_negative=False)
    assert_same(ours, draw_theirs(pipe, prompt="a cat", seed=1, **options), guided=True)
    zeros = draw_theirs(theirs("sdxl", "pndm"), prompt="a cat", seed=1, **options)
    assert compare(ours[0][-1].latents, zeros[0][-1]).relative_l2 > 1e-3


@pytest.mark.parametrize("scheduler", ["euler", "euler-ancestral"])
def test_latents_replace_the_first_draw(pipes, theirs, scheduler):
    latents = np.random.default_rng(0).standard_normal((2, 4, 6, 8)).astype(np.float32)
    ours = draw_ours(
        pipes["sd"],
        prompt=PROMPTS[:2],
        steps=4,
        guidance=2.0,
        seed=5,
        height=48,
        width=64,
        scheduler=scheduler,
        latents=latents,
    )
    reference = draw_theirs(
        theirs("sd", scheduler),
        prompt=PROMPTS[:2],
        num_inference_steps=4,
        guidance_scale=2.0,
        seed=5,
        height=48,
        width=64,
        latents=torch.from_numpy(latents),
    )
    assert_same(ours, reference, guided=True)


def test_one_step(pipes, theirs):
    options = {"prompt": "a castle", "seed": 2, "height": 64, "width": 64}
    ours = draw_ours(pipes["sd"], steps=1, guidance=0.0, scheduler="ddim", **options)
    pipe = theirs("sd", "ddim")
    reference = draw_theirs(pipe, num_inference_steps=1, guidance_scale=0.0, **options)
    assert_same(ours, reference, guided=False)


def test_long_prompts_are_cut_where_diffusers_cuts_them(pipes, theirs):
    prompt = " ".join(["masterpiece", "vase,", "Ünïcode", "flowers"] * 30)
    options = {"prompt": prompt, "seed": 0, "height": 48, "width": 48}
    with pytest.warns(UserWarning, match="cut off"):
        ours = draw_ours(pipes["sd"], steps=4, guidance=2.0, **options)
    pipe = theirs("sd", "pndm")
    reference = draw_theirs(pipe, num_inference_steps=4, guidance_scale=2.0, **options)
    assert_same(ours, reference, guided=True)


def test_half_precision_bundles_are_fed_half_precision(bundles, tiny_bundle, tmp_path):
    for family in ("sd", "sdxl"):
        folder = tmp_path / family
        tiny_bundle.write_bundle(bundles(family).tiny, folder, dtype="float16")
        options = {"prompt": "a cat", "steps": 4, "seed": 1, "height": 48, "width": 48}
        with Pipeline.load(folder) as half, Pipeline.load(bundles(family).folder) as full:
            ours, pixels = draw_ours(half, **options)
            reference, _ = draw_ours(full, **options)
        assert ours[-1].latents.dtype == np.float32
        assert pixels.dtype == np.uint8
        assert 1e-6 < compare(ours[-1].latents, reference[-1].latents).relative_l2 < 5e-3


def test_encode_gives_what_the_unet_is_fed(pipes, theirs):
    request = Request(["a cat", "a dog"], negative_prompt="bad", guidance=2.0, height=40, width=48)
    ours = pipes["sdxl"].encode(request)
    pipe = theirs("sdxl", "pndm")
    hidden, negative, pooled, negative_pooled = pipe.encode_prompt(
        ["a cat", "a dog"], negative_prompt=["bad", "bad"]
    )
    np.testing.assert_allclose(ours.hidden, torch.cat([negative, hidden]), atol=1e-6)
    np.testing.assert_allclose(ours.pooled, torch.cat([negative_pooled, pooled]), atol=1e-6)
    np.testing.assert_array_equal(ours.time_ids, [[40, 48, 0, 0, 40, 48]] * 4)
    assert set(ours.feed()) == {"encoder_hidden_states", "text_embeds", "time_ids"}
