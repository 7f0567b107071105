"""Pipelines with a ControlNet, from the checkpoint to the picture, against those of diffusers."""

import json
import shutil
from dataclasses import replace

import diffusers
import numpy as np
import onnx
import pytest
import torch
from kdexport import Pipeline
from kdexport.cli.exporting import export_and_verify
from kdexport.cli.main import main
from kdexport.core.manifest import load_manifest, save_manifest
from kdexport.core.options import ModelOptions, OnnxOptions, VerifyOptions
from kdexport.export.load import load_checkpoint
from kdexport.runtimes.picture import sample_picture
from kdexport.runtimes.verify import verify_bundle
from PIL import Image, ImageOps

PROMPTS = ["a golden vase with different flowers", "a boat on a lake, watercolor"]
PIXELS = 4  # per latent cell
# With the encoder, verification also starts from a picture while another one steers.
OPTIONS = OnnxOptions(max_steps=6, schedulers=("euler",), with_encoder=True)


def quiet(*_):
    pass


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def steered(request, micro, micro_pipeline, narrow, tmp_path_factory):
    """A pipeline without a mid block, a ControlNet for it, and the bundle of both."""
    family = request.param
    work = tmp_path_factory.mktemp("control")
    folder = micro_pipeline if family == "sd" else work / "sdxl"
    if family == "sdxl":
        micro.save_sdxl_pipeline(folder, narrow("koala-700m"))
    assert json.loads((folder / "unet" / "config.json").read_text())["mid_block_type"] is None
    micro.save_controlnet(work, folder, PIXELS)
    extra = ModelOptions(controlnet=str(work / "controlnet"), control_invert=family == "sd")
    checkpoint = load_checkpoint(str(folder), extra=extra)
    bundle = work / "bundle"
    verify = VerifyOptions(steps=5 if family == "sd" else 2)
    export_and_verify(checkpoint, OPTIONS, bundle, verify, False, quiet)
    return checkpoint, bundle


def reference(checkpoint):
    """diffusers' own pipeline, put together as its users do it."""
    kind = {
        "sd": diffusers.StableDiffusionControlNetPipeline,
        "sdxl": diffusers.StableDiffusionXLControlNetPipeline,
    }[checkpoint.family]
    controlnet = diffusers.ControlNetModel.from_pretrained(checkpoint.control.model)
    pipeline = kind.from_pretrained(checkpoint.folder, controlnet=controlnet)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(seed, mode="RGB"):
    """Coloured squares, of a size that has to be changed."""
    squares = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(squares).resize((90, 50), Image.Resampling.NEAREST).convert(mode)


def pixels(image):
    return np.asarray(image).astype(int)


def test_the_whole_job(steered, tmp_path, capsys):
    """One test, so that each bundle is made once whichever worker runs it."""
    checkpoint, bundle = steered
    check_record(checkpoint, bundle)
    check_pictures(checkpoint, bundle)
    check_commands(checkpoint, bundle, tmp_path, capsys)
    if checkpoint.family == "sd":
        check_that_a_wrong_manifest_is_noticed(checkpoint, bundle, tmp_path)


def check_record(checkpoint, bundle):
    manifest = load_manifest(bundle)
    assert manifest.control.invert is (checkpoint.family == "sd")
    assert (manifest.control.scale, manifest.control.channels) == (1.0, 3)
    assert manifest.source.controlnet == checkpoint.control.model
    assert manifest.source.pipeline_class == checkpoint.pipeline_class
    assert any(name.startswith("controlnet/") for name in manifest.source.weights_sha256)
    inputs = [spec.name for spec in manifest.component("unet").inputs]
    residuals = [spec.name for spec in manifest.component("controlnet").outputs]
    assert inputs[-len(residuals) :] == residuals
    assert residuals[-1] == "mid_block_residual"
    onnx.checker.check_model(bundle / "controlnet" / "model.onnx")

    parity = manifest.parity
    assert parity["passed"]
    checked = {check["output"] for check in parity["components"] if check["role"] == "controlnet"}
    assert checked == set(residuals)
    cases = {
        role: {check["case"] for check in parity["components"] if check["role"] == role}
        for role in ("controlnet", "unet")
    }
    assert cases["controlnet"] == cases["unet"]
    # At most three calls of each of two runs are kept.
    assert 2 <= len(cases["unet"]) <= 6
    assert set(manifest.shapes.tested["controlnet"]) == {"batch", "height", "width"}
    assert all(len(sizes) > 1 for sizes in manifest.shapes.tested["controlnet"].values())
    assert all(image["steps"] for image in parity["runs"])


def check_pictures(checkpoint, bundle):
    theirs, manifest = reference(checkpoint), load_manifest(bundle)
    size = {"height": manifest.defaults.height, "width": 2 * manifest.shapes.multiple}
    pictures = [picture(1), picture(2, "L")]
    runs = [
        # prompts, control, guidance, images per prompt, scale
        (PROMPTS, pictures, 3.0, 2, 0.8),
        (PROMPTS, pictures[0], 0.0, 1, 1.5),
        (PROMPTS[:1], pictures[1], 2.0, 1, 0.0),
    ]
    with Pipeline.load(bundle, low_memory=True) as pipeline:
        for prompts, control, guidance, images, scale in runs:
            told = control if isinstance(control, list) else [control]
            if manifest.control.invert:
                told = [ImageOps.invert(each.convert("RGB")) for each in told]
            expected = theirs(
                prompts,
                image=told,
                num_inference_steps=3,
                guidance_scale=guidance,
                num_images_per_prompt=images,
                controlnet_conditioning_scale=scale,
                generator=torch.Generator().manual_seed(7),
                **size,
            ).images
            arguments = {
                "steps": 3,
                "guidance": guidance,
                "images_per_prompt": images,
                "seed": 7,
                "control_scale": scale,
                **size,
            }
            ours = pipeline(prompts, control=control, **arguments)
            assert len(ours) == len(expected)
            for image, drawn in zip(ours, expected, strict=True):
                assert np.abs(pixels(image) - pixels(drawn)).max() <= 1
            # The picture counts, unless the scale says otherwise.
            other = pipeline(prompts, control=picture(3), **arguments)
            changed = np.abs(pixels(ours[0]) - pixels(other[0])).max()
            assert changed > 3 if scale else changed == 0


def check_commands(checkpoint, bundle, tmp_path, capsys):
    picture(1).save(tmp_path / "control.png")
    drawing = ("run", bundle, "a cat", "--steps", 1, "--seed", 3, "-o", tmp_path / "a.png")
    assert "needs a picture to draw after" in failed(capsys, *drawing)
    missing = ("--control", tmp_path / "missing.png")
    assert "missing.png' is no image that can be read" in failed(capsys, *drawing, *missing)
    assert not (tmp_path / "a.png").exists()
    steer = ("--control", tmp_path / "control.png", "--control-scale", 0.5)
    assert json.loads(passed(capsys, *drawing, *steer, "--json"))["control_scale"] == 0.5
    with Pipeline.load(bundle) as pipeline:
        expected = pipeline("a cat", steps=1, seed=3, control=picture(1), control_scale=0.5)
    drawn = Image.open(tmp_path / "a.png")
    assert np.array_equal(pixels(drawn), pixels(expected))
    assert drawn.info["control_scale"] == "0.5"
    assert "ControlNet, default scale 1" in passed(capsys, "inspect", bundle)
    copy = shutil.copytree(bundle, tmp_path / "copy")
    # The ControlNet that was added is found again.
    passed(capsys, "verify", copy, "--steps", 1)
    steered = ("onnx", checkpoint.folder, "-o", tmp_path / "new", "--control-scale", 1)
    assert "has no ControlNet, so it can have neither" in failed(capsys, *steered)


def check_that_a_wrong_manifest_is_noticed(checkpoint, bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "wrong")
    manifest = load_manifest(copy)
    # The scale goes to both sides, and makes the ControlNet count.
    wrong = replace(manifest.control, invert=False, scale=30.0)
    save_manifest(replace(manifest, control=wrong), copy)
    record = verify_bundle(copy, checkpoint, VerifyOptions(steps=5), quiet).record
    # The components do what they should; the pictures differ.
    assert all(check.passed for check in record.components)
    assert not record.runs[0].passed


def passed(capsys, *arguments):
    return call(capsys, 0, *arguments).out


def failed(capsys, *arguments):
    return call(capsys, 1, *arguments).err


def call(capsys, status, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert stop.value.code == status, captured.err
    return captured


def test_fixed_shapes_and_low_precision(micro, micro_pipeline, tmp_path):
    micro.save_controlnet(tmp_path, micro_pipeline, PIXELS)
    options = replace(OPTIONS, precision="fp16", height=32, width=16, batch=2)
    extra = ModelOptions(controlnet=str(tmp_path / "controlnet"))
    checkpoint = load_checkpoint(str(micro_pipeline), extra=extra)
    bundle = tmp_path / "bundle"
    # Without guidance, which would multiply the rounding errors of these random weights.
    verify = VerifyOptions(steps=1, guidance=1.0)
    export_and_verify(checkpoint, options, bundle, verify, False, quiet)
    manifest = load_manifest(bundle)
    shapes = {spec.name: spec.shape for spec in manifest.component("controlnet").inputs}
    assert shapes["controlnet_cond"] == (2, 3, 32, 16)
    assert manifest.component("controlnet").islands == ("sinusoidal time embedding",)
    with Pipeline.load(bundle) as pipeline:
        image = pipeline("a cat", steps=2, seed=0, control=sample_picture())
    assert image.size == (16, 32)
