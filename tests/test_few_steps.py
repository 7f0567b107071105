"""Few-step models, image to image, clip-skip: exported, verified, and drawn as in diffusers."""

import json

import diffusers
import numpy as np
import pytest
import torch
from kdexport import Pipeline
from kdexport.cli.exporting import export_and_verify
from kdexport.cli.main import main
from kdexport.core.manifest import load_manifest
from kdexport.core.options import ModelOptions, OnnxOptions, VerifyOptions
from kdexport.export.load import load_checkpoint
from PIL import Image

PROMPT = "a boat on a lake, watercolor"
QUIET = {"safety_checker": None, "requires_safety_checker": False}


def read(path):
    return json.loads(path.read_text())


def edit(path, **changes):
    """Changes a JSON object; None removes a key."""
    data = {**read(path), **changes}
    path.write_text(json.dumps({key: data[key] for key in data if data[key] is not None}))


def export(folder, bundle, options, extra=None):
    checkpoint = load_checkpoint(str(folder), extra=extra)
    verify = VerifyOptions(steps=min(3, options.max_steps))
    exported = export_and_verify(checkpoint, options, bundle, verify, False, lambda *_: None)
    assert exported.verification.record.passed
    return exported


def reference(kind, folder, **parts):
    pipeline = kind.from_pretrained(folder, **parts)
    pipeline.set_progress_bar_config(disable=True)
    encoder = pipeline.text_encoder
    if not hasattr(encoder, "text_model"):
        # diffusers' clip_skip looks for the norm where transformers had it before version 5.
        vars(encoder)["text_model"] = encoder
    return pipeline


def assert_same(ours, theirs, most=1):
    assert ours.size == theirs.size
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= most


def picture(width, height):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def test_latent_consistency_model(micro, micro_pipeline, narrow, tmp_path):
    """A guided LCM: the scale goes in as an embedding, and no second row is drawn."""
    folder = tmp_path / "lcm"
    micro.save_pipeline(folder, narrow("bk-sdm-small"))
    width = read(folder / "text_encoder" / "config.json")["hidden_size"]
    config = {**micro.UNET, "cross_attention_dim": width, "time_cond_proj_dim": 16}
    micro.save(folder, "unet", "UNet2DConditionModel", config)
    edit(
        folder / "model_index.json",
        _class_name="LatentConsistencyModelPipeline",
        scheduler=["diffusers", "LCMScheduler"],
        # No longer the model that the twin was made of, whose card has other defaults.
        **dict.fromkeys(key for key in read(folder / "model_index.json") if "kdexport" in key),
    )
    edit(
        folder / "scheduler" / "scheduler_config.json",
        _class_name="PNDMScheduler",  # not the class that is built
        clip_sample=False,
    )
    bundle = tmp_path / "bundle"
    manifest = export(folder, bundle, OnnxOptions(max_steps=4, schedulers=())).manifest
    assert manifest.guidance_embedding == 16
    assert (manifest.defaults.steps, manifest.defaults.guidance) == (4, 8.5)
    assert manifest.component("unet").inputs[-1].name == "timestep_cond"
    tested = manifest.shapes.tested["unet"]["batch"]
    assert 1 in tested
    theirs = reference(diffusers.LatentConsistencyModelPipeline, folder, **QUIET)
    with Pipeline.load(bundle) as pipe:
        for guidance in (1.0, 8.5):
            generator = torch.Generator().manual_seed(5)
            expected = theirs(
                PROMPT,
                height=32,
                width=32,
                num_inference_steps=4,
                guidance_scale=guidance,
                generator=generator,
            ).images[0]
            ours = pipe(PROMPT, seed=5, height=32, width=32, guidance=guidance)
            assert_same(ours, expected)


@pytest.fixture(scope="module")
def image_bundle(micro_pipeline, tmp_path_factory):
    """An SD pipeline with an encoder and a clip-skip."""
    bundle = tmp_path_factory.mktemp("image") / "bundle"
    options = OnnxOptions(max_steps=5, schedulers=("dpm++2m",), with_encoder=True)
    export(micro_pipeline, bundle, options, ModelOptions(clip_skip=1))
    return bundle


def test_the_verification_covers_it(image_bundle):
    manifest = load_manifest(image_bundle)
    assert manifest.source.clip_skip == 1
    assert manifest.text[0].hidden_output == "skipped_hidden_state"
    assert manifest.text[0].negative_output == "last_hidden_state"
    assert [record.image is not None for record in manifest.samplers] == [True, True]
    checks = {check["output"] for check in manifest.parity["components"]}
    assert checks >= {"skipped_hidden_state", "latent_parameters", "last_hidden_state"}
    runs = [run["case"] for run in manifest.parity["runs"]]
    assert any("from a picture at strength 0.6" in case for case in runs)


def test_clip_skip(micro_pipeline, image_bundle):
    theirs = reference(diffusers.StableDiffusionPipeline, micro_pipeline, **QUIET)
    options = {"num_inference_steps": 3, "guidance_scale": 4.0, "height": 32, "width": 32}
    draw = lambda **more: theirs(  # noqa: E731
        PROMPT, generator=torch.Generator().manual_seed(5), **options, **more
    ).images[0]
    with Pipeline.load(image_bundle) as pipe:
        ours = pipe(PROMPT, seed=5, steps=3, guidance=4.0, height=32, width=32)
    assert_same(ours, draw(clip_skip=1))
    assert np.abs(np.asarray(ours, int) - np.asarray(draw(), int)).max() > 2


def test_image_to_image(micro_pipeline, image_bundle):
    theirs = reference(diffusers.StableDiffusionImg2ImgPipeline, micro_pipeline, **QUIET)
    init = picture(40, 32)
    with Pipeline.load(image_bundle) as pipe:
        for strength in (0.3, 0.7, 1.0):
            expected = theirs(
                PROMPT,
                image=init,
                strength=strength,
                num_inference_steps=5,
                guidance_scale=4.0,
                generator=torch.Generator().manual_seed(5),
                clip_skip=1,
            ).images[0]
            ours = pipe(PROMPT, seed=5, steps=5, guidance=4.0, init=init, strength=strength)
            assert_same(ours, expected)


def test_the_command(image_bundle, tmp_path, capsys):
    picture(47, 33).save(tmp_path / "in.png")
    arguments = ["run", image_bundle, PROMPT, "--steps", 5, "--seed", 1, "--json"]
    arguments += ["--init", tmp_path / "in.png", "--strength", 0.6, "-o", tmp_path / "out.png"]
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 0
    drawn = json.loads(capsys.readouterr().out)
    assert (drawn["height"], drawn["width"], drawn["strength"]) == (32, 40, 0.6)
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (40, 32)
        assert image.info["strength"] == "0.6"
    with pytest.raises(SystemExit):
        main(["inspect", str(image_bundle)])
    shown = capsys.readouterr().out
    assert "default, dpm++2m" in shown


def test_verify_reads_the_clip_skip_from_the_bundle(image_bundle, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(image_bundle), "--steps", "1", "--json"])
    assert stop.value.code == 0
    assert json.loads(capsys.readouterr().out)["passed"]


def test_sdxl(micro, narrow, tmp_path):
    """Both text encoders skip, and the picture is encoded as SDXL does it."""
    folder, bundle = tmp_path / "sdxl", tmp_path / "bundle"
    micro.save_sdxl_pipeline(folder, narrow("koala-700m"))
    texts = [read(folder / f"text_encoder{n}" / "config.json") for n in ("", "_2")]
    layers = [text["num_hidden_layers"] for text in texts]
    options = OnnxOptions(max_steps=3, schedulers=(), with_encoder=True)
    manifest = export(folder, bundle, options, ModelOptions(clip_skip=1)).manifest
    outputs = [(each.hidden_output, each.negative_output) for each in manifest.text]
    assert outputs == [(f"hidden_states.{n - 2}", f"hidden_states.{n - 1}") for n in layers]
    theirs = reference(diffusers.StableDiffusionXLImg2ImgPipeline, folder)
    init = picture(40, 32)
    expected = theirs(
        PROMPT,
        negative_prompt="blurry",
        image=init,
        strength=0.7,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        clip_skip=1,
    ).images[0]
    with Pipeline.load(bundle) as pipe:
        ours = pipe(
            PROMPT,
            negative_prompt="blurry",
            seed=5,
            steps=3,
            guidance=4.0,
            init=init,
            strength=0.7,
        )
    assert_same(ours, expected)
