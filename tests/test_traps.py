"""Badly packed checkpoints through the whole job: exported, verified, and verified again."""

import json
import shutil

import pytest
import torch
from kdexport.cli.main import main
from kdexport.core.manifest import load_manifest
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizerFast

FEW = ("--schedulers", "", "--max-steps", 4, "--verify-steps", 1)
UNET = "diffusion_pytorch_model.safetensors"


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def pack_badly(folder):
    """A pickled text encoder with non-contiguous tensors, nulls stripped, one variant only, …"""
    tensors = load_file(folder / "text_encoder" / "model.safetensors")
    turned = {name: each.T.contiguous().T for name, each in tensors.items() if each.ndim == 2}
    torch.save({**tensors, **turned}, folder / "text_encoder" / "pytorch_model.bin")
    (folder / "text_encoder" / "model.safetensors").unlink()
    edit(folder / "unet" / "config.json", lambda config: config.pop("mid_block_type"))
    (folder / "vae" / UNET).rename(folder / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    tokenizer = folder / "tokenizer"
    CLIPTokenizerFast.from_pretrained(tokenizer).backend_tokenizer.save(
        str(tokenizer / "tokenizer.json")
    )
    (tokenizer / "vocab.json").unlink()
    (tokenizer / "merges.txt").unlink()
    edit(tokenizer / "tokenizer_config.json", lambda config: config.pop("model_max_length"))


def test_a_folder_with_every_trap(capsys, micro_pipeline, tmp_path):
    folder, bundle = shutil.copytree(micro_pipeline, tmp_path / "model"), tmp_path / "bundle"
    pack_badly(folder)
    status, _, err = call(capsys, "onnx", folder, "-o", bundle, *FEW)
    assert (status, "pass --variant fp16" in err) == (1, True)
    options = ("--variant", "fp16", *FEW)
    status, _, err = call(capsys, "onnx", folder, "-o", bundle, *options)
    assert status == 0
    assert "no fp16 weights of text_encoder, unet; the plain ones are read" in err.replace(
        "\n", " "
    )
    assert "read with mid_block_type = null" in err.replace("\n", " ")
    source = load_manifest(bundle).source
    assert source.variant == "fp16"
    assert "text_encoder/pytorch_model.bin" in source.weights_sha256
    assert json.loads((bundle / "unet" / "config.json").read_text())["mid_block_type"] is None
    assert call(capsys, "verify", bundle, "--steps", 1)[0] == 0


def test_a_single_file_and_its_base(capsys, micro_pipeline, ldm, tmp_path):
    # The teacher's config, over the student's weights in one file without its autoencoder.
    config = shutil.copytree(micro_pipeline, tmp_path / "config", ignore=_weights)
    edit(config / "unet" / "config.json", lambda data: data.update(layers_per_block=2))
    file = ldm.write_single_file(micro_pipeline, tmp_path / "model.safetensors", ["vae"])
    extra = ("--config", config, "--base", micro_pipeline)
    status, out, err = call(capsys, "inspect", file, *extra, "--json")
    assert status == 0
    assert "read with layers_per_block = 1" in err.replace("\n", " ")
    count = sum(each.numel() for each in load_file(micro_pipeline / "unet" / UNET).values())
    sizes = {part["role"]: part["parameters"] for part in json.loads(out)["parts"]}
    assert sizes["unet"] == count
    bundle = tmp_path / "bundle"
    status, _, err = call(capsys, "onnx", file, *extra, "-o", bundle, *FEW)
    assert status == 0, err
    source = load_manifest(bundle).source
    assert (source.config, source.base) == (str(config), str(micro_pipeline))
    assert sorted(source.weights_sha256) == ["model.safetensors", f"vae/{UNET}"]
    assert call(capsys, "verify", bundle, "--steps", 1)[0] == 0
    tensors = load_file(file)
    tensors["model.diffusion_model.out.2.bias"] += 1
    save_file(tensors, file)
    status, _, err = call(capsys, "verify", bundle, "--steps", 1)
    assert (status, "has other weights than the bundle was made of" in err) == (1, True)


def _weights(_, names):
    return [name for name in names if name.endswith(".safetensors")]
