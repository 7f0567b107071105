import json
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
import transformers
from kdexport.core.checkpoint import ComponentSource
from kdexport.core.errors import WeightsError
from kdexport.core.weight_files import weight_files
from kdexport.export.skeleton import build_skeleton, parameter_shapes
from kdexport.export.weights import open_weights
from safetensors.torch import load_file, save_file

VAE = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "norm_num_groups": 4,
}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def vae(tmp_path):
    torch.manual_seed(0)
    diffusers.AutoencoderKL(**VAE).save_pretrained(tmp_path / "vae")
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    return ComponentSource("vae", "diffusers", "AutoencoderKL", tmp_path / "vae", config)


def open_all(source):
    return open_weights(source, parameter_shapes(build_skeleton(source, torch.float32)))


def assert_equals_diffusers(source):
    module = diffusers.AutoencoderKL.from_pretrained(source.folder)
    weights = open_all(source)
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(weights.tensors[name].read(), tensor.numpy())


def rewrite(source, change):
    tensors = load_file(source.folder / WEIGHTS)
    change(tensors)
    save_file(tensors, source.folder / WEIGHTS)


def test_reads_what_diffusers_reads(vae):
    assert_equals_diffusers(vae)


def test_sharded(vae):
    module = diffusers.AutoencoderKL.from_pretrained(vae.folder)
    (vae.folder / WEIGHTS).unlink()
    module.save_pretrained(vae.folder, max_shard_size="10KB")
    assert (vae.folder / f"{WEIGHTS}.index.json").is_file()
    assert_equals_diffusers(vae)
    next(vae.folder.glob("*-00001-*")).unlink()
    with pytest.raises(WeightsError, match="lacks the shards diffusion_pytorch_model-00001"):
        open_all(vae)


def test_attention_names_of_old_autoencoders(vae):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors):
        for name in [name for name in tensors if "attentions" in name]:
            for new, legacy in old.items():
                if f".{new}." in name:
                    tensors[name.replace(f".{new}.", f".{legacy}.")] = tensors.pop(name)

    rewrite(vae, rename)
    assert any("proj_attn" in name for name in load_file(vae.folder / WEIGHTS))
    assert_equals_diffusers(vae)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(vae, dtype):
    rewrite(vae, lambda tensors: tensors.update({k: v.to(dtype) for k, v in tensors.items()}))
    stored = load_file(vae.folder / WEIGHTS)
    for name, tensor in open_all(vae).tensors.items():
        np.testing.assert_array_equal(tensor.read().astype(np.float64), stored[name].double())


@pytest.mark.parametrize("prefix", [True, False], ids=["text_model.", "bare"])
@pytest.mark.parametrize("name", ["CLIPTextModel", "CLIPTextModelWithProjection"])
def test_text_encoders_with_either_prefix(tmp_path, name, prefix):
    config = transformers.CLIPTextConfig(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, projection_dim=8,
    )  # fmt: skip
    module = getattr(transformers, name)(config)
    tensors = {}
    for key, tensor in module.state_dict().items():
        bare = key.removeprefix("text_model.")
        named = f"text_model.{bare}" if prefix and bare != "text_projection.weight" else bare
        tensors[named] = tensor.clone()
    # Old checkpoints carry this buffer.
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, tmp_path / "model.safetensors")
    source = ComponentSource("text_encoder", "transformers", name, tmp_path, config.to_dict())
    weights = open_all(source)
    for key, tensor in module.state_dict().items():
        np.testing.assert_array_equal(weights.tensors[key].read(), tensor.numpy())


def test_a_config_that_asks_for_more(vae):
    config = {**vae.config, "layers_per_block": 2}
    with pytest.raises(WeightsError, match=r"\d+ missing \(\S+, .* and \d+ more\); use the config"):
        open_all(replace(vae, config=config))


def test_a_config_that_asks_for_less(vae):
    rewrite(vae, lambda tensors: tensors.update({"decoder.extra.weight": torch.zeros(1)}))
    with pytest.raises(WeightsError, match=r"1 that the config does not know \(decoder.extra"):
        open_all(vae)


def test_another_shape(vae):
    config = {**vae.config, "latent_channels": 5}
    with pytest.raises(WeightsError, match=r"of another shape \(\S+ \[.*\] instead of \["):
        open_all(replace(vae, config=config))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:100],
        lambda data: data[:-8],
        lambda data: b"\xff" * 16 + data[16:],
        lambda data: data[:8] + b"[]" + data[10:],
        lambda data: b"",
    ],
    ids=["header cut", "data cut", "length", "no object", "empty"],
)
def test_a_damaged_file(vae, damage):
    path = vae.folder / WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError, match=r"no complete safetensors file .* download it again"):
        open_all(vae)


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "pickles"])
def test_every_form_of_weights(vae, safe, variant, shards):
    """What diffusers saves, we find, and so does diffusers with the same words."""
    module = diffusers.AutoencoderKL.from_pretrained(vae.folder)
    (vae.folder / WEIGHTS).unlink()
    size = {"max_shard_size": "10KB"} if shards else {}
    module.save_pretrained(vae.folder, safe_serialization=safe, variant=variant, **size)
    source = replace(vae, variant=variant)
    assert len(weight_files(source)) > 1 if shards else len(weight_files(source)) == 1
    options = {"variant": variant, "use_safetensors": safe}
    reference = diffusers.AutoencoderKL.from_pretrained(vae.folder, **options)
    tensors = open_all(source).tensors
    for name, tensor in reference.state_dict().items():
        np.testing.assert_array_equal(tensors[name].read(), tensor.numpy())


def test_a_text_encoder_in_pickles(tmp_path):
    config = transformers.CLIPTextConfig(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, projection_dim=8,
    )  # fmt: skip
    module = transformers.CLIPTextModelWithProjection(config)
    tensors = {**module.state_dict(), "text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    kind = type(module).__name__
    source = ComponentSource("text_encoder", "transformers", kind, tmp_path, config.to_dict())
    weights = open_all(source)
    for key, tensor in module.state_dict().items():
        np.testing.assert_array_equal(weights.tensors[key].read(), tensor.numpy())
