"""Single-file checkpoints: what is read equals the pipeline's folder and what diffusers reads."""

import json
import shutil

import diffusers
import numpy as np
import pytest
import torch
import transformers
from kdexport.core.errors import CheckpointError, CheckpointWarning, OptionError, WeightsError
from kdexport.core.options import ModelOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.skeleton import build_skeleton, parameter_shapes
from kdexport.export.weights import open_weights, weight_hashes
from kdexport.runtimes.torch_single_file import load_from_single_file
from safetensors.torch import load_file, save_file

# SD 1.x, SD 2.x and SDXL name their text encoders in three ways.
FAMILIES = ("bk-sdm-small", "bk-sdm-v2-small", "koala-700m")


def read(source):
    shapes = parameter_shapes(build_skeleton(source, torch.float32))
    return {name: tensor.read() for name, tensor in open_weights(source, shapes).tensors.items()}


def assert_same(ours, theirs):
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)


def load(file, **extra):
    return load_checkpoint(str(file), extra=ModelOptions(**extra))


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_component(narrow, ldm, tmp_path, name, suffix):
    folder = narrow(name)
    file = ldm.write_single_file(folder, tmp_path / f"model{suffix}")
    checkpoint = load(file, config=str(folder))
    whole = load_checkpoint(str(folder))
    assert checkpoint.defaults == whole.defaults
    assert not checkpoint.random_weights
    assert list(weight_hashes(checkpoint)) == [file.name]
    for part, source in checkpoint.components.items():
        ours = read(source)
        assert_same(ours, read(whole.component(part)))
        library = {"diffusers": diffusers, "transformers": transformers}[source.library]
        module = load_from_single_file(getattr(library, source.class_name), source)
        assert_same(ours, {key: each.numpy() for key, each in module.state_dict().items()})


def test_a_teachers_config_over_a_student(narrow, ldm, tmp_path):
    folder = shutil.copytree(narrow("bk-sdm-small"), tmp_path / "pipeline")
    file = ldm.write_single_file(folder, tmp_path / "model.safetensors")
    right = dict(load(file, config=str(folder)).component("unet").config)
    edit(
        folder / "unet" / "config.json",
        layers_per_block=2,
        mid_block_type="UNetMidBlock2DCrossAttn",
    )
    with pytest.warns(CheckpointWarning, match="layers_per_block = 1, mid_block_type = null"):
        source = load(file, config=str(folder)).component("unet")
    assert source.config == right
    module = load_from_single_file(diffusers.UNet2DConditionModel, source)
    assert_same(read(source), {key: each.numpy() for key, each in module.state_dict().items()})


def test_a_base_gives_what_the_file_lacks(narrow, ldm, tmp_path):
    folder = narrow("bk-sdm-small")
    file = ldm.write_single_file(folder, tmp_path / "model.safetensors", ["vae", "text_encoder"])
    with pytest.raises(CheckpointError, match="holds no text_encoder or vae; name a pipeline that"):
        load(file, config=str(folder))
    checkpoint = load(file, base=str(folder))
    assert checkpoint.random_weights
    assert checkpoint.component("unet").file == file
    assert checkpoint.component("vae").file is None
    names = ["model.safetensors", "text_encoder/model.safetensors"]
    names += ["vae/diffusion_pytorch_model.safetensors"]
    assert sorted(weight_hashes(checkpoint)) == names
    assert_same(read(checkpoint.component("vae")), read(load(folder).component("vae")))


def test_a_decoder_takes_the_place_of_a_missing_vae(narrow, ldm, tmp_path):
    folder, tiny = narrow("bk-sdm-small"), narrow("sdxs-512-dreamshaper")
    file = ldm.write_single_file(folder, tmp_path / "model.safetensors", ["vae"])
    checkpoint = load(file, config=str(folder), decoder=str(tiny))
    assert checkpoint.component("vae").class_name == "AutoencoderTiny"


def test_a_unet_with_the_names_of_diffusers(narrow, tmp_path):
    folder = narrow("bk-sdm-small")
    file = tmp_path / "unet.safetensors"
    shutil.copyfile(folder / "unet" / "diffusion_pytorch_model.safetensors", file)
    source = load(file, base=str(folder)).component("unet")
    assert source.file == file
    assert_same(read(source), read(load(folder).component("unet")))
    module = load_from_single_file(diffusers.UNet2DConditionModel, source)
    assert_same(read(source), {key: each.numpy() for key, each in module.state_dict().items()})


def test_configs_of_the_zoo(narrow, ldm, tmp_path):
    folder = narrow("bk-sdm-small")
    file = ldm.write_single_file(folder, tmp_path / "model.safetensors")
    checkpoint = load(file, config="zoo:bk-sdm-small-narrow", base=str(folder))
    # The tokenizer comes from the base.
    assert checkpoint.folder == folder
    assert checkpoint.scheduler["_class_name"] == "PNDMScheduler"
    for part, source in load(folder).components.items():
        assert checkpoint.component(part).file == file
        assert_same(read(checkpoint.component(part)), read(source))


@pytest.mark.parametrize(
    ("extra", "error", "message"),
    [
        ({}, CheckpointError, "does not say what its model looks like; pass --config with"),
        ({"config": "zoo:bk-sdm-small"}, OptionError, "has no tokenizer, because CLIP's vocabul"),
        ({"config": "zoo:nope", "base": "{base}"}, CheckpointError, "no model 'nope'; choose"),
        (
            {"config": "zoo:koala-1b", "base": "{base}"},
            OptionError,
            "StableDiffusionXLPipeline and",
        ),
        ({"config": "{base}", "variant": "fp16"}, OptionError, "no variants; leave out --variant"),
        ({"config": "{sdxl}"}, CheckpointError, "holds no text_encoder_2; name a pipeline"),
        ({"config": "{sdxl}", "base": "{base}"}, CheckpointError, "family sd and its config of"),
        ({"config": "nonsense"}, CheckpointError, "neither a folder nor a Hub id"),
    ],
)
def test_options_that_do_not_fit(narrow, ldm, tmp_path, extra, error, message):
    folders = {"{base}": narrow("bk-sdm-small"), "{sdxl}": narrow("koala-700m")}
    file = ldm.write_single_file(folders["{base}"], tmp_path / "model.safetensors")
    with pytest.raises(error, match=message):
        load(file, **{key: str(folders.get(value, value)) for key, value in extra.items()})


def test_a_config_for_what_is_no_single_file(narrow):
    folder = str(narrow("bk-sdm-small"))
    with pytest.raises(OptionError, match="is no single file and has configs of its own; leave"):
        load(folder, config=folder)


def test_a_file_without_a_unet(narrow, tmp_path):
    folder = narrow("bk-sdm-small")
    file = tmp_path / "vae.safetensors"
    shutil.copyfile(folder / "vae" / "diffusion_pytorch_model.safetensors", file)
    with pytest.raises(CheckpointError, match="holds no U-Net that kdexport knows"):
        load(file, base=str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"addition_embed_type": "text_time"}, r"unet in .* lacks 'label_emb\.0\.0\.weight', whic"),
        ({"cross_attention_dim": 99}, r"of another shape \(.*attn2.to_k.weight"),
    ],
)
def test_a_config_of_another_model(narrow, ldm, tmp_path, changes, message):
    folder = shutil.copytree(narrow("bk-sdm-small"), tmp_path / "pipeline")
    file = ldm.write_single_file(folder, tmp_path / "model.safetensors")
    edit(folder / "unet" / "config.json", **changes)
    with pytest.raises(WeightsError, match=message):
        read(load(file, config=str(folder)).component("unet"))


def test_a_class_that_diffusers_does_not_read(narrow, ldm, tmp_path):
    folder = shutil.copytree(narrow("bk-sdm-small"), tmp_path / "pipeline")
    file = ldm.write_single_file(folder, tmp_path / "model.safetensors")
    shutil.copytree(narrow("sdxs-512-dreamshaper") / "vae", folder / "vae", dirs_exist_ok=True)
    edit(folder / "model_index.json", vae=["diffusers", "AutoencoderTiny"])
    tiny = load(file, config=str(folder)).component("vae")
    with pytest.raises(WeightsError, match="diffusers reads no AutoencoderTiny from single files"):
        read(tiny)


def test_a_unet_of_another_kind(narrow, tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"model.diffusion_model.joint_blocks.0.weight": torch.ones(1)}, file)
    with pytest.raises(WeightsError, match="has no blocks that diffusers knows"):
        load(file, base=str(narrow("bk-sdm-small")))


def test_a_missing_block_is_named(narrow, ldm, tmp_path):
    folder = narrow("bk-sdm-small")
    file = ldm.write_single_file(folder, tmp_path / "model.safetensors")
    tensors = load_file(file)
    del tensors["model.diffusion_model.out.2.weight"]
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=r"1 missing \(conv_out.weight\)"):
        read(load(file, config=str(folder)).component("unet"))
