"""Loading, errors, memory, cancellation and the public call."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import kdexport
import numpy as np
import pytest
from kdexport.core.errors import BundleError, OptionError, RunError, SamplerError
from kdexport.core.manifest import load_manifest, save_manifest
from kdexport.runtimes.pipeline import Pipeline
from kdexport.runtimes.request import Request
from PIL import Image

SMALL = {"steps": 4, "seed": 0, "height": 48, "width": 48}


@pytest.fixture(scope="module")
def pipe(sd):
    with Pipeline.load(sd.folder) as loaded:
        yield loaded


@pytest.fixture
def copy(sd, tmp_path):
    """A copy of the SD bundle to damage."""
    return shutil.copytree(sd.folder, tmp_path / "copy")


def change_manifest(folder, **changes):
    manifest = replace(load_manifest(folder), **changes)
    save_manifest(manifest, folder)
    return manifest


def test_the_public_call(sd):
    seen = []
    with kdexport.Pipeline.load(str(sd.folder), threads=1) as pipe:
        image = pipe("a cat", progress=seen.append, **SMALL)
        steps = list(pipe.generate(Request("a cat", **SMALL)))
        pixels = pipe.decode(steps[-1])
        np.testing.assert_array_equal(pipe.decode(steps[-1].latents), pixels)
    assert image.size == (48, 48)
    np.testing.assert_array_equal(np.asarray(image), pixels[0])
    assert image.info["seed"] == "0"
    # PNDM makes one call more than it has steps.
    assert [step.index for step in seen] == [0, 1, 2, 3, 4]
    assert {step.total for step in seen} == {5}
    assert seen[0].timestep == 751.0


def test_one_image_or_a_list(pipe):
    assert isinstance(pipe("a", images_per_prompt=2, **SMALL), list)
    assert len(pipe("a", images_per_prompt=2, **SMALL)) == 2
    assert len(pipe(["a"], **SMALL)) == 1
    images = pipe(["a", "b"], images_per_prompt=2, **SMALL)
    assert [image.info["image"] for image in images] == ["1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    assert len({image.tobytes() for image in images}) == 4


def test_the_seed_decides(pipe):
    again = [pipe("a", **{**SMALL, "seed": seed}).tobytes() for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]
    options = {**SMALL, "seed": None}
    random = pipe("a", **options)
    options["seed"] = int(random.info["seed"])
    assert pipe("a", **options).tobytes() == random.tobytes()


def test_writing_into_a_step_does_not_change_the_run(pipe):
    expected = [step.latents for step in pipe.generate(Request("a", **SMALL))]
    for step, latents in zip(pipe.generate(Request("a", **SMALL)), expected, strict=True):
        np.testing.assert_array_equal(step.latents, latents)
        for array in (step.sample, step.output, step.latents):
            array[:] = np.nan


def test_low_memory_draws_the_same_and_holds_nothing(sd, pipe):
    with Pipeline.load(sd.folder, low_memory=True) as low:
        runners = low._components._runners
        steps = low.generate(Request("a", **SMALL))
        assert not any(runner.is_open for runner in runners.values())
        next(steps)
        assert [role for role, runner in runners.items() if runner.is_open] == ["unet"]
        steps.close()
        assert not any(runner.is_open for runner in runners.values())
        assert low("a", **SMALL).tobytes() == pipe("a", **SMALL).tobytes()
        assert not any(runner.is_open for runner in runners.values())


def test_cancelling_leaves_the_pipeline_usable(pipe):
    before = pipe("a", **SMALL).tobytes()
    for step in pipe.generate(Request("a", **SMALL)):
        if step.index == 1:
            break
    assert pipe("a", **SMALL).tobytes() == before


def test_a_request_is_checked_before_anything_runs(pipe):
    with pytest.raises(OptionError, match="multiple of 8"):
        pipe.generate(Request("a", height=50))
    with pytest.raises(SamplerError, match=r"no 5-step table for the scheduler 'pndm'.*1, 4, 6"):
        pipe.generate(Request("a", steps=5))
    with pytest.raises(BundleError, match=r"no scheduler 'ddpm', only pndm, ddim"):
        pipe.plan(Request("a", scheduler="ddpm"))
    plan = pipe.plan(Request("a", seed=1))
    assert plan.steps == 4
    assert next(pipe.generate(plan)).plan is plan
    assert pipe.encode(plan).hidden.shape == (2, 77, 6)


@pytest.mark.parametrize("low_memory", [True, False])
def test_a_closed_pipeline_says_so(sd, low_memory):
    pipe = Pipeline.load(sd.folder, low_memory=low_memory)
    steps = pipe.generate(Request("a", **SMALL))
    next(steps)
    pipe.close()
    with pytest.raises(RunError, match="is not open"):
        next(steps)
    with pytest.raises(RunError, match="was closed"):
        pipe("a", **SMALL)


def test_changed_and_missing_files_are_found(copy):
    sampler = copy / "samplers" / "lcm.json"
    text = sampler.read_text(encoding="utf-8")
    sampler.write_text(text.replace("1", "2", 1), encoding="utf-8")
    with pytest.raises(BundleError, match=r"'samplers/lcm.json' .* changed or damaged"):
        Pipeline.load(copy)
    Pipeline.load(copy, check=False).close()
    sampler.unlink()
    with pytest.raises(BundleError, match=r"lacks 'samplers/lcm.json'"):
        Pipeline.load(copy)


def test_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="is no kdexport bundle"):
        Pipeline.load(tmp_path)


def test_a_bundle_for_another_engine(copy):
    change_manifest(copy, backend="coreml")
    with pytest.raises(BundleError, match="a bundle for coreml, which the runtime 'onnxruntime'"):
        Pipeline.load(copy, runtime="onnxruntime")


def test_unknown_runtime_and_provider(sd):
    with pytest.raises(OptionError, match="no runtime 'tvm'; choose onnxruntime"):
        Pipeline.load(sd.folder, runtime="tvm")
    with pytest.raises(OptionError, match="no provider 'tpu'; choose cpu"):
        Pipeline.load(sd.folder, provider="tpu", low_memory=True)


def test_a_damaged_model_is_named(copy):
    (copy / "vae_decoder" / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"cannot open .*vae_decoder"):
        Pipeline.load(copy, check=False)


def test_sdxl_needs_a_pooled_output(sdxl, tmp_path):
    folder = shutil.copytree(sdxl.folder, tmp_path / "copy")
    text = tuple(replace(each, pooled_output=None) for each in sdxl.manifest.text)
    change_manifest(folder, text=text)
    with (
        Pipeline.load(folder) as pipe,
        pytest.raises(BundleError, match="names no pooled output"),
    ):
        pipe("a", **SMALL)


@pytest.mark.parametrize(
    ("weight", "what"),
    [
        ("table:text_encoder", "The text_encoder gave NaN"),
        ("mix", "The U-Net at call 1 of 5 gave NaN"),
        ("decode", "The vae_decoder gave NaN"),
    ],
)
def test_nan_is_an_error_that_names_the_component(tiny_bundle, sd, tmp_path, weight, what):
    spoilt = np.full_like(sd.tiny.arrays[weight], np.inf)
    tiny = replace(sd.tiny, arrays={**sd.tiny.arrays, weight: spoilt})
    tiny_bundle.write_bundle(tiny, tmp_path / "spoilt")
    with Pipeline.load(tmp_path / "spoilt") as pipe, pytest.raises(RunError, match=what):
        pipe("a", **SMALL)


@pytest.mark.parametrize("shape", [(4, 6, 6), (1, 3, 6, 6), (0, 4, 6, 6)])
def test_decode_refuses_other_latents(pipe, shape):
    with pytest.raises(OptionError, match=r"shape \(images, 4, height, width\), not"):
        pipe.decode(np.zeros(shape, np.float32))


def test_decode_scales_and_shifts(tiny_bundle, sd, copy):
    latents = np.random.default_rng(0).standard_normal((3, 4, 5, 2)).astype(np.float32)
    space = replace(sd.manifest.latents, scaling_factor=0.5, shift_factor=0.25)
    change_manifest(copy, latents=space)
    mixed = np.einsum("oc,nchw->nohw", sd.tiny.arrays["decode"][:, :, 0, 0], latents / 0.5 + 0.25)
    expected = np.round((np.clip(np.sin(mixed) / 2 + 0.5, 0, 1)) * 255).repeat(8, 2).repeat(8, 3)
    with Pipeline.load(copy) as pipe:
        pixels = pipe.decode(latents)
    difference = pixels.transpose(0, 3, 1, 2).astype(int) - expected.astype(int)
    assert np.abs(difference).max() <= 1
    assert (difference == 0).mean() > 0.99


def test_a_static_bundle(tiny_bundle, sd, tmp_path, pipe):
    tiny_bundle.write_bundle(sd.tiny, tmp_path / "static", batch=2)
    with Pipeline.load(tmp_path / "static") as static:
        image = static("a cat", guidance=3.0, **SMALL)
        assert image.tobytes() == pipe("a cat", guidance=3.0, **SMALL).tobytes()
        images = static(["a cat", "a dog"], guidance=1.0, **SMALL)
        assert len(images) == 2
        with pytest.raises(OptionError, match="takes 2 rows, but 2 images need 4"):
            static(["a cat", "a dog"], guidance=3.0, **SMALL)


def test_the_package_imports_nothing_heavy():
    code = (
        "import sys, kdexport; assert kdexport.__version__; assert dir(kdexport)\n"
        "heavy = {'torch', 'numpy', 'PIL', 'onnxruntime', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "kdexport.Pipeline\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'Nope'"):
        kdexport.Nope  # noqa: B018


def test_draws_where_torch_cannot_be_imported(sdxl, tmp_path):
    code = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "diffusers", "transformers", "onnx", "safetensors"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
try:
    import torch
except ImportError:
    pass
else:
    raise SystemExit("torch is not blocked")
from kdexport import Pipeline
from kdexport.runtimes.image import save_png

with Pipeline.load(sys.argv[1]) as pipe:
    image = pipe("a cat", steps=4, seed=0, height=48, width=48, scheduler="euler-ancestral")
save_png(image, sys.argv[2])
"""
    path = tmp_path / "image.png"
    subprocess.run([sys.executable, "-c", code, str(sdxl.folder), str(path)], check=True)
    with Pipeline.load(sdxl.folder) as pipe:
        expected = pipe("a cat", scheduler="euler-ancestral", **SMALL)
    with Image.open(path) as read:
        assert read.text["prompt"] == "a cat"
        np.testing.assert_array_equal(np.asarray(read), np.asarray(expected))
