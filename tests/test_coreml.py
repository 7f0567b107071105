"""Whole pipelines to Core ML: exported, verified, drawn, and held against Apple's contract."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
from kdexport import Pipeline
from kdexport.cli.main import main
from kdexport.core.errors import BundleError, OptionError
from kdexport.core.manifest import load_manifest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Runs `kdexport coreml`; gives the bundle."""

    def run(model, *options):
        bundle = tmp_path_factory.mktemp("coreml") / "bundle"
        arguments = ["coreml", model, "-o", bundle, *options, "--schedulers", "", "--max-steps", 4]
        with pytest.raises(SystemExit) as ended:
            main([str(each) for each in (*arguments, "--verify-steps", 2)])
        assert ended.value.code == 0
        return bundle

    return run


@pytest.fixture(scope="module")
def plain(export, micro_pipeline, tmp_path_factory):
    model = tmp_path_factory.mktemp("licensed") / "model"
    shutil.copytree(micro_pipeline, model)
    index = model / "model_index.json"
    # Made-up weights have no licence.
    index.write_text(index.read_text().replace("_kdexport_random_weights", "_formerly"))
    (model / "README.md").write_text("---\nlicense: mit\n---\n")
    return export(model, "--attention", "original", "--with-encoder")


def contract(bundle):
    script = [sys.executable, str(ROOT / "scripts" / "coreml_contract.py"), str(bundle)]
    return subprocess.run(script, capture_output=True, text=True, check=False)


def packages(bundle):
    return {str(each.relative_to(bundle)) for each in bundle.rglob("*.mlpackage")}


def test_a_pipeline(plain):
    assert packages(plain) == {
        *("TextEncoder.mlpackage", "Unet.mlpackage"),
        *("VAEDecoder.mlpackage", "VAEEncoder.mlpackage"),
    }
    manifest = load_manifest(plain)
    card = (plain / "README.md").read_text()
    assert 'license: "mit"' in card
    assert "- coreml\n" in card
    assert "kdexport's own evaluator" in card
    assert manifest.backend == "coreml"
    assert manifest.parity["passed"]
    assert manifest.parity["runtime"] == {"engine": "mil", "provider": "cpu"}
    roles = {each["role"] for each in manifest.parity["components"]}
    assert roles == {each.role for each in manifest.components}
    assert any("time_proj" in each for each in manifest.component("unet").islands)
    vocabulary = json.loads((plain / "vocab.json").read_text(encoding="utf-8"))
    assert len(vocabulary) > 256
    assert (plain / "merges.txt").read_text(encoding="utf-8").startswith("#version")


def test_packages_describe_themselves(plain):
    assert load_manifest(plain).source.licence == "mit"
    for name in packages(plain):
        description = ct.utils.load_spec(str(plain / name)).description
        assert description.metadata.license == "mit"
        assert description.metadata.shortDescription
        assert all(each.shortDescription for each in (*description.input, *description.output))


def test_apples_contract(plain):
    done = contract(plain)
    assert done.returncode == 0, done.stdout
    assert "| Unet | input | encoder_hidden_states | float16 (2, " in done.stdout


def test_a_broken_contract_is_found(plain, tmp_path):
    (tmp_path / "manifest.json").write_text((plain / "manifest.json").read_text())
    (tmp_path / "VAEDecoder.mlpackage").symlink_to(plain / "Unet.mlpackage")
    done = contract(tmp_path)
    assert done.returncode == 1
    assert "not in the contract" in done.stdout
    assert "missing" in done.stdout


def test_it_draws(plain):
    with Pipeline.load(plain) as pipeline:
        first = np.asarray(pipeline("a red boat", steps=2, seed=1))
        assert np.array_equal(np.asarray(pipeline("a red boat", steps=2, seed=1)), first)
        three = pipeline(["a", "b", "c"], steps=1, seed=0)
        assert [each.size for each in three] == [first.shape[1::-1]] * 3
        again = pipeline("a red boat", init=three[0], strength=0.5, steps=2, seed=1)
    assert np.asarray(again).std() > 1


def test_float16_is_rounded_as_written(plain):
    pictures = []
    for provider in ("cpu", "cpu-fp32"):
        with Pipeline.load(plain, provider=provider) as pipeline:
            last = list(pipeline.generate(pipeline.plan(request())))[-1]
            pictures.append(last.latents)
    difference = np.abs(pictures[0] - pictures[1]).max()
    assert 0 < difference < 0.05 * np.abs(pictures[1]).max()


def request():
    from kdexport.runtimes.request import Request

    return Request(prompt="a red boat", steps=2, seed=1)


def test_another_size_is_refused(plain):
    with Pipeline.load(plain) as pipeline, pytest.raises(OptionError, match="pixels only, not 512"):
        pipeline("a", height=512, width=512)


def test_a_changed_file_is_refused(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "copy")
    model = tmp_path / "copy/Unet.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"Unet.mlpackage/.*model.mlmodel' .* was changed"):
        Pipeline.load(tmp_path / "copy")


@pytest.mark.slow
def test_xl_in_chunks_with_palettes_and_a_tiny_decoder(export, narrow):
    options = ("--chunk", "--palettize", 8, "--decoder", "zoo:taesdxl-narrow", "--target", "iOS18")
    bundle = export(narrow("koala-700m"), *options)
    assert "UnetChunk1.mlpackage" in packages(bundle)
    manifest = load_manifest(bundle)
    unet = manifest.component("unet")
    assert unet.chunks == ("UnetChunk1.mlpackage", "UnetChunk2.mlpackage")
    assert unet.compression["bits"] == 8
    assert unet.compression["formats"] == {"palette8-grouped": unet.compression["weights"]}
    assert manifest.component("text_encoder_2").compression["recipe"] == "palette8-grouped"
    assert unet.graded == "palette8"
    assert manifest.latents.scaling_factor == 0.13025
    assert manifest.component("vae_decoder").compression is None
    done = contract(bundle)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_velocity_becomes_noise_at_two_sizes(export, narrow):
    sizes = ("--size", 128, 128, "--size", 64, 128)
    bundle = export(narrow("bk-sdm-tiny-vpred"), "--epsilon", "--attention", "original", *sizes)
    manifest = load_manifest(bundle)
    assert manifest.coreml.prediction == "epsilon"
    assert manifest.shapes.sizes == ((128, 128), (64, 128))
    assert {run["case"].split(",")[0] for run in manifest.parity["runs"]} == {"128x128", "64x128"}


@pytest.mark.slow
def test_a_controlnet(export, narrow):
    options = ("--attention", "split-einsum-v2", "--control-scale", 0.8)
    bundle = export(narrow("sdxs-512-dreamshaper-sketch"), *options)
    # Apple's library has no scale, so the package has it inside.
    manifest = load_manifest(bundle)
    assert manifest.control.scale == manifest.component("controlnet").residual_scale == 0.8
    assert "controlnet/ControlNet.mlpackage" in packages(bundle)
    assert "ControlledUnet.mlpackage" in packages(bundle)
    done = contract(bundle)
    assert done.returncode == 0, done.stdout
