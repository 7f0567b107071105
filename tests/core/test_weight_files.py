"""Which files hold the weights: names, variants, shards, and what is said where there are none."""

import json

import pytest
from kdexport.core.checkpoint import ComponentSource
from kdexport.core.errors import WeightsError
from kdexport.core.weight_files import find_weight_files, weight_file_names, weight_files


@pytest.fixture
def source(tmp_path):
    def make(library="diffusers", variant=None, files=()):
        for name in files:
            (tmp_path / name).touch()
        return ComponentSource("unet", library, "UNet2DConditionModel", tmp_path, {}, None, variant)

    return make


@pytest.mark.parametrize(
    ("library", "variant", "names"),
    [
        ("diffusers", None, ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"]),
        ("transformers", None, ["model.safetensors", "pytorch_model.bin"]),
        ("transformers", "fp16", ["model.fp16.safetensors", "pytorch_model.fp16.bin"]),
    ],
)
def test_safetensors_come_before_pickles(source, library, variant, names):
    assert [name for name, _ in weight_file_names(library, variant)] == names
    for name in reversed(names):
        found = find_weight_files(source(library, variant, [name]))
        assert [file.name for file in found] == [name]


def test_a_variant_is_not_read_as_plain(source):
    files = ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.non_ema.bin"]
    plain = source(files=files)
    assert find_weight_files(plain) == ()
    with pytest.raises(WeightsError, match=r"holds no .*; pass --variant fp16 or non_ema\."):
        weight_files(plain)
    assert [file.name for file in weight_files(source(variant="fp16"))] == files[:1]


def test_shards_of_a_variant_are_no_other_variant(source):
    name = "diffusion_pytorch_model.fp16-00001-of-00002.safetensors"
    with pytest.raises(WeightsError, match="pass --variant fp16"):
        weight_files(source(files=[name]))


def test_no_weights_at_all(source, tmp_path):
    with pytest.raises(WeightsError, match=r"it holds no weights\); complete the checkpoint"):
        weight_files(source())
    gone = ComponentSource("unet", "diffusers", "UNet2DConditionModel", tmp_path / "gone", {})
    with pytest.raises(WeightsError, match="it holds no weights"):
        weight_files(gone)


def test_a_single_file_is_the_only_one(source, tmp_path):
    (tmp_path / "model.safetensors").touch()
    single = ComponentSource("unet", "transformers", "X", tmp_path, {}, tmp_path / "all.ckpt")
    assert weight_files(single) == (tmp_path / "all.ckpt",)


@pytest.mark.parametrize(
    ("library", "variant", "index"),
    [
        ("diffusers", None, "diffusion_pytorch_model.safetensors.index.json"),
        ("diffusers", "fp16", "diffusion_pytorch_model.safetensors.index.fp16.json"),
        ("transformers", None, "pytorch_model.bin.index.json"),
    ],
)
def test_shards(source, tmp_path, library, variant, index):
    shards = {"a": "2.part", "b": "1.part", "c": "2.part"}
    (tmp_path / index).write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(WeightsError, match=r"lacks the shards 1\.part, 2\.part; download them"):
        weight_files(source(library, variant))
    found = weight_files(source(library, variant, ["1.part", "2.part"]))
    assert [file.name for file in found] == ["1.part", "2.part"]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "is no index of shards"),
        ("[]", "is no index of shards"),
        ('{"weight_map": []}', "is no index of shards"),
        ('{"weight_map": {"a": 1}}', "is no index of shards"),
        ('{"weight_map": {}}', "names files outside its folder, or none"),
        ('{"weight_map": {"a": "../other.bin"}}', "names files outside its folder, or none"),
    ],
)
def test_a_damaged_index(source, tmp_path, index, message):
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError, match=message):
        weight_files(source())
