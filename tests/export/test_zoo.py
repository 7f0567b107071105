"""The zoo: names, figures, defaults and the messages for a row that is wrong."""

import copy
import json
from importlib import resources

import pytest
from kdexport.core.errors import CheckpointError
from kdexport.export.narrow import narrow_twin
from kdexport.export.zoo import (
    read_zoo,
    zoo,
    zoo_decoder,
    zoo_decoders,
    zoo_entry,
    zoo_match,
)

NAMES = (
    *("bk-sdm-base", "bk-sdm-small", "bk-sdm-tiny"),
    *("bk-sdm-v2-base", "bk-sdm-v2-small", "bk-sdm-v2-tiny"),
    *("bk-sdm-v2-base-768", "bk-sdm-v2-small-768", "bk-sdm-v2-tiny-768", "bk-sdm-tiny-vpred"),
    *("edgefusion", "edgefusion-guided", "segmind-small-sd", "segmind-tiny-sd"),
    *("ssd-1b", "segmind-vega", "segmind-vegart"),
    *("diffengine-small-sd-xl", "diffengine-tiny-sd-xl"),
    *("koala-700m", "koala-1b", "koala-lightning-700m", "koala-lightning-1b"),
    *("koala-turbo-700m", "koala-turbo-1b", "sdxs-512-0.9", "sdxs-512-dreamshaper"),
    *("sdxs-512-dreamshaper-anime", "sdxs-512-dreamshaper-sketch"),
)
DECODERS = ("sd-vae", "sdxl-vae", "sdxl-vae-fp16-fix", "taesd", "taesdxl", "taesd3")


@pytest.fixture
def data():
    text = resources.files("kdexport.export").joinpath("zoo.json").read_text(encoding="utf-8")
    return copy.deepcopy(json.loads(text))


def test_the_models():
    assert tuple(zoo()) == NAMES
    with pytest.raises(TypeError):
        zoo()["x"] = zoo_entry("koala-1b")


def test_the_decoders():
    assert tuple(zoo_decoders()) == DECODERS
    assert zoo_decoder("taesd3").vae.config["latent_channels"] == 16
    assert zoo_decoder("sdxl-vae-fp16-fix").vae.config["force_upcast"] is False
    with pytest.raises(CheckpointError, match=r"no decoder 'tae'; choose sd-vae, .* or taesd3"):
        zoo_decoder("tae")


def test_the_card_of_koala_lightning_overrides_its_scheduler():
    entry = zoo_entry("koala-lightning-700m")
    assert entry.scheduler.config["timestep_spacing"] == "leading"
    assert entry.scheduler_overrides == {"timestep_spacing": "trailing"}
    assert (entry.steps, entry.guidance) == (10, 3.5)
    assert entry.negative_prompt.startswith("worst quality")


def test_rows_like_others_and_what_completes_them():
    vega, fast = zoo_entry("segmind-vega"), zoo_entry("segmind-vegart")
    assert (fast.unet, fast.vae, fast.base) == (vega.unet, vega.vae, vega.hub[0])
    assert fast.scheduler_overrides == {"_class_name": "LCMScheduler"}
    assert (fast.steps, fast.guidance) == (4, 0.0)
    plain, anime = zoo_entry("sdxs-512-dreamshaper"), zoo_entry("sdxs-512-dreamshaper-anime")
    assert (anime.unet, anime.base, anime.adapter.format) == (plain.unet, plain.hub[0], "peft")
    sketch = zoo_entry("sdxs-512-dreamshaper-sketch")
    assert (sketch.controlnet.scale, sketch.controlnet.invert) == (0.8, True)
    assert "controlnet" in sketch.models()
    assert plain.base is plain.adapter is plain.controlnet is None


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(
        CheckpointError, match=r"no model 'sd-15'.*bk-sdm-base, .* or sdxs-512-dreamshaper-sketch"
    ):
        zoo_entry("sd-15")


def test_a_row_is_its_family_its_cut_and_its_own_settings():
    tiny = zoo_entry("bk-sdm-v2-tiny")
    assert tiny.unet.config["cross_attention_dim"] == 1024  # the family
    assert tiny.unet.config["mid_block_type"] is None  # the student
    assert tiny.unet.config["attention_head_dim"] == [5, 10, 20]  # the row
    assert tiny.pipeline == "StableDiffusionPipeline"
    assert (tiny.resolution, tiny.steps, tiny.guidance) == (512, 50, 7.5)


def test_like_lays_a_piece_over_another():
    vae = zoo_entry("koala-1b").vae
    assert (vae.config["scaling_factor"], vae.config["force_upcast"]) == (0.13025, True)
    assert vae.config["block_out_channels"] == [128, 256, 512, 512]
    assert "force_upcast" not in zoo_entry("bk-sdm-base").vae.config


def test_text_encoders_and_their_pad_tokens():
    assert [each.pad_token for each in zoo_entry("bk-sdm-base").text_encoders] == ["<|endoftext|>"]
    assert [each.pad_token for each in zoo_entry("bk-sdm-v2-base").text_encoders] == ["!"]
    first, second = zoo_entry("koala-1b").text_encoders
    assert (first.pad_token, second.pad_token) == ("<|endoftext|>", "!")
    assert (first.config["hidden_act"], second.config["hidden_act"]) == ("quick_gelu", "gelu")
    assert second.class_name == "CLIPTextModelWithProjection"


@pytest.mark.parametrize(
    ("model", "steps", "guidance"),
    [
        ("zoo:koala-700m", 25, 7.5),
        ("zoo:koala-700m-narrow", 25, 7.5),
        ("etri-vilab/koala-1b-llava-cap", 25, 7.5),
        ("nota-ai/bk-sdm-tiny-2m", 50, 7.5),
        ("IDKiro/sdxs-512-dreamshaper", 1, 0.0),
    ],
)
def test_defaults(model, steps, guidance):
    assert zoo_match(model).defaults == {
        "steps": steps,
        "guidance": guidance,
        "negative_prompt": None,
    }


@pytest.mark.parametrize("model", ["somebody/model", "koala-700m", "zoo:nope", ""])
def test_an_unknown_model_has_no_entry(model):
    assert zoo_match(model) is None


@pytest.mark.parametrize("name", NAMES)
def test_a_narrow_twin_keeps_the_structure(name):
    full, small = zoo_entry(name), narrow_twin(zoo_entry(name))
    kept = ("down_block_types", "up_block_types", "mid_block_type", "layers_per_block")
    for key in (*kept, "use_linear_projection", "addition_embed_type"):
        assert small.unet.config.get(key, "absent") == full.unet.config.get(key, "absent")
    assert [each.class_name for each in small.text_encoders] == [
        each.class_name for each in full.text_encoders
    ]
    widths = [each.config["hidden_size"] for each in small.text_encoders]
    assert small.unet.config["cross_attention_dim"] == sum(widths)
    assert (small.name, small.scheduler) == (f"{name}-narrow", full.scheduler)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, r"models\.koala-1b has 'colour'; use like, family, student"),
        ({"family": "sd9"}, r"models\.koala-1b\.family is 'sd9'.* use sd1, sd2 or sdxl"),
        ({"student": "bk"}, r"models\.koala-1b\.student is 'bk'.* use bk-base"),
        ({"controlnet": "x"}, r"models\.koala-1b\.controlnet is 'x'.* use sdxs-sketch"),
        ({"like": "x"}, r"models\.koala-1b\.like is 'x'.* use bk-sdm-base"),
        ({"vae": "x"}, r"models\.koala-1b\.vae is 'x', not in vaes; use sd-vae"),
        ({"scheduler": "x"}, r"models\.koala-1b\.scheduler is 'x', not in schedulers"),
        ({"text_encoders": ["x"]}, r"models\.koala-1b\.text_encoders is 'x'.* use clip-l"),
    ],
)
def test_a_wrong_row_is_named(data, change, message):
    data["models"]["koala-1b"] |= change
    with pytest.raises(CheckpointError, match=message):
        read_zoo(data)


@pytest.mark.parametrize("key", ["steps", "guidance", "hub", "expected", "family"])
def test_a_missing_setting_is_named(data, key):
    del data["models"]["koala-1b"][key]
    with pytest.raises(CheckpointError, match=rf"models\.koala-1b.*{key}"):
        read_zoo(data)


def test_a_piece_that_is_like_nothing_is_named(data):
    data["vaes"]["sdxl-vae"]["like"] = "x"
    with pytest.raises(CheckpointError, match=r"vaes\.sdxl-vae\.like is 'x'"):
        read_zoo(data)
