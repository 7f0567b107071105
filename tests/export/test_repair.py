"""Configs that do not describe their weights: read off the weights, or refused."""

import json
import shutil
import warnings
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core.checkpoint import ComponentSource
from kdexport.core.errors import CheckpointWarning, WeightsError
from kdexport.export import repair
from kdexport.export.load import load_checkpoint
from kdexport.export.repair import repair_unet
from kdexport.export.skeleton import build_skeleton, parameter_shapes
from kdexport.export.structure import described_structure, full_config, stored_structure
from kdexport.export.weights import open_weights
from kdexport.export.zoo import zoo
from safetensors.torch import load_file, save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
SMALL = {"cross_attention_dim": 8, "norm_num_groups": 4, "attention_head_dim": 2}
SDXL_TYPES = {
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
}
SDXL = {**SMALL, **SDXL_TYPES, "block_out_channels": [8, 16, 32], "attention_head_dim": [1, 2, 4]}
SDXL["transformer_layers_per_block"] = [1, 2, 10]
# Students whose encoder and decoder differ in depth.
SSD_1B = {
    **SDXL,
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [1, [2, 2], [4, 4]],
    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
}
VEGA = {
    **SSD_1B,
    "transformer_layers_per_block": [1, [1, 1], [2, 2]],
    "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1],
}


def build(config):
    with init_empty_weights():
        return diffusers.UNet2DConditionModel(**config)


def shapes(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def plain(config):
    """Without what JSON does not keep."""
    return json.loads(json.dumps(config))


def teacher(config):
    """The config that the student's weights were cut out of, as a training script leaves it."""
    cut = {**config, "layers_per_block": 2, "mid_block_type": "UNetMidBlock2DCrossAttn"}
    if config["addition_embed_type"]:
        return cut | {"transformer_layers_per_block": [1, 2, 10]}
    if len(config["block_out_channels"]) == 3:
        channels = config["block_out_channels"]
        cut["block_out_channels"] = [*channels, channels[-1]]
        cut["down_block_types"] = [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"]
        cut["up_block_types"] = ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3]
        for key in ("attention_head_dim", "only_cross_attention"):
            if isinstance(config[key], list):
                cut[key] = [*config[key], config[key][-1]]
    return cut


def write_config(folder, config):
    (folder / "unet" / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", zoo())
def test_the_teachers_config_over_the_student(narrow, tmp_path, name):
    folder = shutil.copytree(narrow(name), tmp_path / name)
    right = json.loads((folder / "unet" / "config.json").read_text())
    write_config(folder, teacher(right))
    with pytest.warns(CheckpointWarning, match="does not describe its weights .* read with"):
        source = load_checkpoint(str(folder)).component("unet")
    mended, expected = (plain(full_config(each)) for each in (source.config, right))
    assert described_structure(mended) == described_structure(expected)
    if expected["reverse_transformer_layers_per_block"]:
        # Several configs describe these blocks; the simplest is found.
        for key in ("transformer_layers_per_block", "reverse_transformer_layers_per_block"):
            del mended[key], expected[key]
    assert mended == expected
    # What the reference loads: the file on disk, with the repaired settings over its config.
    module = diffusers.UNet2DConditionModel.from_pretrained(source.folder, **source.repaired)
    weights = open_weights(source, parameter_shapes(build_skeleton(source, torch.float32)))
    for key, tensor in module.state_dict().items():
        np.testing.assert_array_equal(weights.tensors[key].read(), tensor.numpy())


@pytest.mark.parametrize("name", ["bk-sdm-base", "bk-sdm-small", "koala-700m"])
def test_a_config_that_fits_is_left_alone(narrow, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_checkpoint(str(narrow(name))).component("unet").repaired == {}


def test_stripped_nulls(narrow, tmp_path):
    """diffusers alone leaves a mid block here that no weights were loaded into."""
    folder = shutil.copytree(narrow("bk-sdm-small"), tmp_path / "model")
    config = json.loads((folder / "unet" / "config.json").read_text())
    kept = {key: value for key, value in config.items() if value is not None}
    assert "mid_block_type" not in kept
    write_config(folder, kept)
    with pytest.warns(
        CheckpointWarning, match='mid block "none" instead of .*mid_block_type = nul'
    ):
        source = load_checkpoint(str(folder)).component("unet")
    assert source.repaired == {"mid_block_type": None}


@pytest.mark.parametrize("student", [SSD_1B, VEGA], ids=["SSD-1B", "Vega"])
def test_depth_by_attention(student):
    stored = stored_structure(shapes(build(student)))
    assert stored == described_structure(full_config(student))
    implied = repair._implied(full_config(SDXL), stored)
    assert shapes(build({**SDXL, **implied})) == shapes(build(student))
    assert implied["mid_block_type"] == "UNetMidBlock2D"


@st.composite
def configs(draw):
    """Configs of the Stable Diffusion family, with one shape for all teachers."""
    stages = draw(st.integers(1, 3))
    attentive = draw(st.lists(st.booleans(), min_size=stages, max_size=stages))
    layers = draw(st.one_of(st.integers(1, 2), st.just([1, 2, 1][:stages])))
    depths = st.lists(st.integers(1, 2), min_size=3, max_size=3)
    nested = draw(st.booleans())
    up = [draw(depths) for _ in range(stages)] if nested else None
    mids = [None, "UNetMidBlock2D", "UNetMidBlock2DCrossAttn"]
    return {
        **SMALL,
        "block_out_channels": [8, 16, 24][:stages],
        "layers_per_block": layers,
        "down_block_types": [f"{'CrossAttn' * each}DownBlock2D" for each in attentive],
        "up_block_types": [f"{'CrossAttn' * each}UpBlock2D" for each in reversed(attentive)],
        "mid_block_type": draw(st.sampled_from(mids)),
        "transformer_layers_per_block": [draw(depths) if nested else draw(st.integers(1, 3))
                                         for _ in range(stages)],
        "reverse_transformer_layers_per_block": up,
    }  # fmt: skip


TEACHER = {
    **SMALL,
    "block_out_channels": [8, 16, 24],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3,
    "up_block_types": ["CrossAttnUpBlock2D"] * 3,
}


@settings(max_examples=25, deadline=None)
@given(configs())
def test_any_student_is_read_off_its_weights(student):
    expected = shapes(build(student))
    stored = stored_structure(expected)
    assert stored == described_structure(full_config(student))
    implied = repair._implied(full_config(TEACHER), stored)
    assert shapes(build({**TEACHER, **implied})) == expected


@pytest.fixture
def refuse(tmp_path):
    """Saves weights of one config under another one, and expects a refusal."""

    def check(config, weights, message, change=lambda tensors: None):
        tensors = {name: torch.zeros(shape) for name, shape in shapes(build(weights)).items()}
        change(tensors)
        save_file(tensors, tmp_path / WEIGHTS)
        source = ComponentSource("unet", "diffusers", "UNet2DConditionModel", tmp_path, config)
        with pytest.raises(WeightsError, match=message):
            repair_unet(source)

    return check


def test_a_missing_stage_that_cannot_be_named(refuse):
    config = {**TEACHER, "block_out_channels": [8, 16, 16], "attention_head_dim": [1, 2, 4]}
    kept = {"down_block_types": ["CrossAttnDownBlock2D"] * 2}
    kept |= {"up_block_types": ["CrossAttnUpBlock2D"] * 2, "block_out_channels": [8, 16]}
    message = r"layers by stage \[2, 2\] instead of .* stage is gone, and so which attention_head_d"
    refuse(config, {**TEACHER, **kept}, message)


def test_other_channels(refuse):
    wider = {**TEACHER, "block_out_channels": [8, 16, 32]}
    refuse(
        TEACHER, wider, r"channels by stage \[8, 16, 32\] instead of \[8, 16, 24\].*heads of oth"
    )


def drop(prefix):
    def change(tensors):
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    return change


def test_half_a_stage(refuse):
    message = "different numbers of stages; use the config.json that belongs to these weights"
    refuse(TEACHER, TEACHER, message, drop("up_blocks.2."))


def test_layers_that_no_config_describes(refuse):
    message = "no config of a UNet2DConditionModel describes those"
    refuse(TEACHER, TEACHER, message, drop("up_blocks.1.resnets.2."))


@pytest.mark.parametrize(
    "change",
    [
        {"up_block_types": ["UpBlock2D"]},
        {"block_out_channels": 8},
        {"layers_per_block": [1, 2]},
        {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"},
        {"down_block_types": ["SimpleCrossAttnDownBlock2D"] * 3},
        {"reverse_transformer_layers_per_block": [1]},
    ],
)
def test_foreign_configs_are_left_to_the_class(tmp_path, change):
    tensors = {name: torch.zeros(shape) for name, shape in shapes(build(TEACHER)).items()}
    save_file(tensors, tmp_path / WEIGHTS)
    config = {**TEACHER, **change}
    source = ComponentSource("unet", "diffusers", "UNet2DConditionModel", tmp_path, config)
    assert repair_unet(source) is source


def test_foreign_weights_are_left_to_the_comparison(tmp_path):
    save_file({"down_blocks.0.motion.weight": torch.zeros(1)}, tmp_path / WEIGHTS)
    source = ComponentSource("unet", "diffusers", "UNet2DConditionModel", tmp_path, TEACHER)
    assert repair_unet(source) is source
    (tmp_path / WEIGHTS).unlink()
    assert repair_unet(source) is source


def test_another_misfit_is_still_refused(narrow):
    source = load_checkpoint(str(narrow("bk-sdm-small"))).component("unet")
    config = {**source.config, "layers_per_block": 2, "cross_attention_dim": 99}
    with pytest.warns(CheckpointWarning):
        repaired = repair_unet(replace(source, config=config))
    with pytest.raises(WeightsError, match=r"of another shape \(.*attn2.to_k"):
        open_weights(repaired, parameter_shapes(build_skeleton(repaired, torch.float32)))


def test_weights_of_the_student_are_what_it_has(narrow):
    """The helper of these tests: its students really have fewer tensors than their teachers."""
    folder = narrow("bk-sdm-tiny")
    config = json.loads((folder / "unet" / "config.json").read_text())
    known = {key: value for key, value in teacher(config).items() if not key.startswith("_")}
    assert len(load_file(folder / "unet" / WEIGHTS)) < len(shapes(build(known))) / 1.5
