"""Adapters on the command line: a bundle that is verified against diffusers with the same ones."""

import json

import numpy as np
import pytest
import torch
from kdexport import Pipeline
from kdexport.cli.main import main
from kdexport.core.manifest import load_manifest
from kdexport.export.load import load_checkpoint
from kdexport.export.skeleton import build_skeleton, parameter_shapes
from safetensors.torch import load_file, save_file

FEW = ("--schedulers", "", "--max-steps", 4)


def call(capsys, *arguments):
    """Runs a command in this process: (status, standard output, standard error)."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.fixture
def adapters(lora, micro_pipeline, tmp_path):
    """A kohya file of the U-Net and the text encoder, and a PEFT folder of the U-Net."""
    checkpoint = load_checkpoint(str(micro_pipeline))
    shapes = {
        name: {
            key: torch.empty(shape, device="meta")
            for key, shape in parameter_shapes(build_skeleton(source, torch.float32)).items()
        }
        for name, source in checkpoint.components.items()
    }
    unet = [("unet", path) for path in lora.UNET]
    text = [("text_encoder", path) for path in lora.TEXT]
    both = lora.make_adapter(shapes, unet + text, alphas=(2.0, 1.0))
    save_file(lora.kohya(both), tmp_path / "style.safetensors")
    second = lora.make_adapter(shapes, unet[4:8], ranks=(2,))
    folder = lora.save_peft(tmp_path / "peft", second, binary=True, r=2, lora_alpha=1)
    return tmp_path / "style.safetensors", folder


def test_the_whole_job(capsys, micro_pipeline, adapters, tmp_path):
    style, folder = adapters
    bundle = tmp_path / "bundle"
    named = ["--lora", f"{style}:0.5", "--lora", folder]
    options = (*named, *FEW, "--verify-steps", 2)
    status, _, err = call(capsys, "onnx", micro_pipeline, "-o", bundle, *options)
    assert status == 0, err
    source = load_manifest(bundle).source
    assert [(each.model, each.scale) for each in source.adapters] == [
        (str(style), 0.5),
        (str(folder), 1.0),
    ]
    assert set(source.weights_sha256) >= {
        "adapter_0/style.safetensors",
        "adapter_1/unet/adapter_config.json",
    }
    assert load_manifest(bundle).parity["passed"]
    shown = json.loads(call(capsys, "inspect", bundle, "--json")[1])["source"]["adapters"]
    assert shown[0] == {"model": str(style), "scale": 0.5, "revision": None}
    assert "adapters" in call(capsys, "inspect", bundle)[1]

    # The reference is loaded with the same adapters again.
    status, out, err = call(capsys, "verify", bundle, "--steps", 1, "--json")
    assert status == 0, err
    assert json.loads(out)["passed"]

    # They do something, to every component that they name.
    plain = tmp_path / "plain"
    assert call(capsys, "onnx", micro_pipeline, "-o", plain, *FEW, "--no-verify")[0] == 0
    with Pipeline.load(bundle) as ours, Pipeline.load(plain) as theirs:
        first, second = (each("a cat", steps=1, seed=0) for each in (ours, theirs))
    assert not np.array_equal(np.asarray(first), np.asarray(second))
    assert load_manifest(plain).source.adapters == ()
    for part, same in (("unet", False), ("text_encoder", False), ("vae_decoder", True)):
        files = [each / part / "model.onnx.data" for each in (bundle, plain)]
        assert (files[0].read_bytes() == files[1].read_bytes()) is same

    # A changed adapter is a changed source.
    tensors = load_file(style)
    save_file({key: 1.5 * tensor for key, tensor in tensors.items()}, style)
    status, _, err = call(capsys, "verify", bundle)
    assert status == 1
    assert "has other weights than the bundle was made of" in err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{here}/none.safetensors", "There is no adapter"),
        ("{style}:0", "is 0; give a finite number"),
        ("{here}/other.safetensors", "does not fit"),
    ],
)
def test_bad_adapters(capsys, micro_pipeline, adapters, tmp_path, name, message):
    save_file({"unet.x.lora.down.weight": torch.ones(1, 1)}, tmp_path / "other.safetensors")
    before = sorted(tmp_path.iterdir())
    named = name.format(here=tmp_path, style=adapters[0])
    # Without --no-verify peft would be asked for first.
    status, _, err = call(
        capsys, "onnx", micro_pipeline, "-o", tmp_path / "out", "--lora", named, "--no-verify"
    )
    assert status == 1
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_peft_is_asked_for_before_the_work(capsys, micro_pipeline, adapters, tmp_path, monkeypatch):
    import diffusers

    monkeypatch.setattr(diffusers.utils, "USE_PEFT_BACKEND", False)
    arguments = ("onnx", micro_pipeline, "-o", tmp_path / "out", "--lora", adapters[0], *FEW)
    status, _, err = call(capsys, *arguments)
    assert status == 1
    assert "or export with --no-verify" in " ".join(err.split())
    assert not (tmp_path / "out").exists()
    assert call(capsys, *arguments, "--no-verify")[0] == 0
