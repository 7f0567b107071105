"""What is checked and decided before anything is written."""

from dataclasses import replace
from pathlib import Path

import pytest
from kdexport.core.errors import ExportError, OptionError
from kdexport.core.options import VerifyOptions
from kdexport.core.quantization import Quantization
from kdexport.core.recipe import LayerFormats, Recipe
from kdexport.core.tensorrt_options import TensorrtOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.tensorrt import memory, targets
from kdexport.export.tensorrt.cache import engine_bytes
from kdexport.export.tensorrt.prepare import prepare_tensorrt, request_digest, rows_per_image

pytest.importorskip("tensorrt_rtx")

SHORT = {"schedulers": (), "max_steps": 2}


@pytest.fixture(scope="module")
def checkpoint(micro_pipeline):
    return load_checkpoint(str(micro_pipeline))


@pytest.fixture(scope="module")
def unguided(checkpoint):
    return replace(checkpoint, defaults={**checkpoint.defaults, "guidance": 1.0})


def statics(prepared):
    return {part.role: dict(part.static) for part in prepared.onnx.parts}


@pytest.mark.parametrize(
    ("guided", "profile", "unet", "decoder"),
    [
        # One size, that of the model; rows vary with guidance.
        (True, (), {"height": 16, "width": 16}, {"height": 16, "width": 16}),
        (
            False,
            ("height=64", "width=96"),
            {"batch": 1, "height": 16, "width": 24},
            {"batch": 1, "height": 16, "width": 24},
        ),
        (False, ("batch=2",), {"height": 16, "width": 16}, {"height": 16, "width": 16}),
        # Both or neither.
        (False, ("height=64,64,128",), {"batch": 1}, {"batch": 1}),
        (True, ("width=64,64,128",), {}, {}),
    ],
)
def test_what_is_fixed_in_the_graph(checkpoint, unguided, guided, profile, unet, decoder):
    model = checkpoint if guided else unguided
    prepared = prepare_tensorrt(model, TensorrtOptions(profile=profile, **SHORT))
    edge = prepared.onnx.pipeline.image_size
    factor = prepared.onnx.pipeline.latents.factor
    if "height" in unet and not any("height" in each for each in profile):
        unet, decoder = ({**each, "height": edge // factor} for each in (unet, decoder))
    if "width" in unet and not any("width" in each for each in profile):
        unet, decoder = ({**each, "width": edge // factor} for each in (unet, decoder))
    assert statics(prepared)["unet"] == unet
    assert statics(prepared)["vae_decoder"] == decoder
    assert rows_per_image(model) == (2 if guided else 1)
    shapes = prepared.onnx.shapes
    assert (shapes.height is None) is ("height" not in unet)
    assert shapes.batch == unet.get("batch")


def test_a_guidance_embedding(checkpoint):
    unet = checkpoint.component("unet")
    changed = replace(unet, config={**unet.config, "time_cond_proj_dim": 256})
    embedded = replace(checkpoint, components={**checkpoint.components, "unet": changed})
    assert rows_per_image(checkpoint) == 2
    assert rows_per_image(embedded) == 1


@pytest.mark.parametrize(
    ("precision", "kinds"),
    [
        ("fp16", {"unet": "mixed", "text_encoder": "mixed", "vae_decoder": "mixed"}),
        ("bf16", {"unet": "bf16", "text_encoder": "mixed", "vae_decoder": "mixed"}),
        ("fp32", {"unet": "fp32", "text_encoder": "fp32", "vae_decoder": "fp32"}),
    ],
)
def test_precisions(checkpoint, precision, kinds):
    prepared = prepare_tensorrt(checkpoint, TensorrtOptions(precision=precision, **SHORT))
    assert {part.role: part.precision for part in prepared.onnx.parts} == kinds


def test_encoder_and_space(checkpoint):
    plain = prepare_tensorrt(checkpoint, TensorrtOptions(**SHORT))
    more = prepare_tensorrt(
        checkpoint, TensorrtOptions(gpus=("4090", "4080", "3090"), with_encoder=True, **SHORT)
    )
    assert "vae_encoder" in statics(more)
    # One engine for both GPUs of sm_89.
    assert [each.target for each in more.gpus] == ["sm_89", "sm_86"]
    for prepared, gpus in ((plain, 1), (more, 2)):
        engines = prepared.onnx.bytes_needed + len(prepared.onnx.parts) * engine_bytes(0)
        assert prepared.bytes_needed == prepared.onnx.bytes_needed + gpus * engines


@pytest.mark.parametrize("profile", ["height=60", "width=64,100,128"])
def test_sizes_that_the_model_does_not_take(checkpoint, profile):
    with pytest.raises(OptionError, match="must be a multiple of"):
        prepare_tensorrt(checkpoint, TensorrtOptions(profile=(profile,), **SHORT))


CHANGES = {
    "gpus": ("3090",),
    "engine": "native",
    "precision": "bf16",
    "attention": "native",
    "profile": ("batch=2",),
    "with_encoder": True,
    "schedulers": (),
    "max_steps": 7,
    "timing_cache": Path("timings"),
    "compatibility": "same-capability",
    "level": 2,
    "quantization": Quantization(
        "int8", Recipe({"unet": LayerFormats("int8")}), activations="signed"
    ),
}


def test_digests(native, checkpoint, unguided):
    native("10.7.0")
    base = TensorrtOptions(engine="native")
    assert set(CHANGES) == set(vars(base))
    digests = [request_digest(checkpoint, base, None)]
    assert request_digest(checkpoint, TensorrtOptions(engine="native"), None) == digests[0]
    for name, value in CHANGES.items():
        changed = replace(base, **{name: value}) if name != "engine" else TensorrtOptions()
        digests.append(request_digest(checkpoint, changed, None))
    digests.append(request_digest(unguided, base, None))
    digests.append(request_digest(replace(checkpoint, scheduler={"x": 1}), base, None))
    digests += [request_digest(checkpoint, base, VerifyOptions(steps=each)) for each in (1, 2)]
    native("10.8.0")
    digests.append(request_digest(checkpoint, base, None))
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"gpus": ("H100",)}, r"does not build for H100 \(sm_90\), .* choose --engine native"),
        ({"gpus": ("4090", "V100")}, r"does not build for V100 \(sm_70\)"),
        ({"gpus": ("T4",), "precision": "bf16"}, "bfloat16, which GPUs have from sm_80 on"),
    ],
)
def test_gpus_are_refused_before_the_export(checkpoint, options, complaint):
    with pytest.raises(OptionError, match=complaint):
        prepare_tensorrt(checkpoint, TensorrtOptions(**options, **SHORT))


def test_a_gpu_that_is_named_twice(checkpoint):
    prepared = prepare_tensorrt(checkpoint, TensorrtOptions(gpus=("4090", "sm_89", "L4"), **SHORT))
    assert [gpu.name for gpu in prepared.gpus] == ["4090"]


def test_too_little_memory_is_known_before_the_export(checkpoint, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    with pytest.raises(ExportError, match=r"'text_encoder' needs about 0\.7 GB of memory"):
        prepare_tensorrt(checkpoint, TensorrtOptions(**SHORT))


def test_a_timing_cache_is_known_before_the_export(native, checkpoint, tmp_path, monkeypatch):
    native("10.7.0")
    monkeypatch.setattr(targets, "local_capability", lambda: (8, 9))
    options = TensorrtOptions(
        gpus=("this",), engine="native", timing_cache=tmp_path / "no" / "t", **SHORT
    )
    with pytest.raises(OptionError, match="lies in a folder that does not exist"):
        prepare_tensorrt(checkpoint, options)


def test_this_gpu_is_another_one_elsewhere(checkpoint, monkeypatch):
    digests = set()
    for capability in ((8, 9), (8, 6)):
        monkeypatch.setattr(targets, "local_capability", lambda value=capability: value)
        digests.add(request_digest(checkpoint, TensorrtOptions(gpus=("this",)), None))
    assert len(digests) == 2
