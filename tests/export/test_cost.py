"""Parameters and MACs against published figures and against torch's own counter."""

import json
import math
from importlib import resources
from pathlib import Path

import pytest
import torch
from kdexport.core.checkpoint import ComponentSource
from kdexport.core.errors import CheckpointError, OptionError
from kdexport.export.cost import TOKENS, component_costs, count
from kdexport.export.zoo import zoo, zoo_entry
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# What every text encoder, VAE and U-Net of the zoo must have, once each.
PIECES = {
    json.dumps([name, piece.class_name, piece.config], sort_keys=True): (entry.source(name), piece)
    for entry in zoo().values()
    for name, piece in entry.models().items()
}
# CompVis/stable-diffusion-v1-4 (BK-SDM issue 53), SD 2.1 base, SDXL base 1.0.
TEACHERS = {
    "sd1": (859_520_964, 338_749_194_240),
    "sd2": (865_910_724, 339_241_205_760),
    "sdxl": (2_567_463_684, 767_178_833_920),
}
# BK-SDM MODEL_CARD: billions of parameters of the U-Net and of the whole, rounded up.
CARD = {
    "bk-sdm-base": (0.58, 0.76),
    "bk-sdm-small": (0.49, 0.66),
    "bk-sdm-tiny": (0.33, 0.50),
    "bk-sdm-v2-base": (0.59, 0.98),
    "bk-sdm-v2-small": (0.49, 0.88),
    "bk-sdm-v2-tiny": (0.33, 0.72),
}


@pytest.mark.parametrize("key", PIECES, ids=lambda key: key[:60])
def test_every_expected_figure(key):
    source, piece = PIECES[key]
    assert piece.expected
    for part, expected in piece.expected.items():
        for size, macs in (expected.macs or {64: None}).items():
            edge = 64 if size == TOKENS else size
            costs = component_costs(source, edge, edge)
            cost = costs[source.name if part == "text_encoder" else part]
            assert cost.parameters == expected.parameters
            assert macs is None or cost.macs == macs


@pytest.mark.parametrize("family", TEACHERS)
def test_the_families_are_their_teachers(family):
    data = json.loads(resources.files("kdexport.export").joinpath("zoo.json").read_text())
    config = data["families"][family]["unet"]
    if "like" in data["families"][family]:
        config = data["families"][data["families"][family]["like"]]["unet"] | config
    source = ComponentSource("unet", "diffusers", "UNet2DConditionModel", Path(), config)
    cost = component_costs(source)["unet"]
    assert (cost.parameters, cost.macs) == TEACHERS[family]


def test_the_published_total():
    """BK-SDM issue 53: text encoder, U-Net and VAE decoder of BK-SDM-Base."""
    entry = zoo_entry("bk-sdm-base")
    costs = {}
    for name in entry.models():
        costs |= component_costs(entry.source(name))
    parts = [costs[name] for name in ("text_encoder", "unet", "vae_decoder")]
    assert sum(each.macs for each in parts) == 1_470_381_046_784
    assert sum(each.parameters for each in parts) == 751_935_623


@pytest.mark.parametrize("name", CARD)
def test_the_model_card(name):
    models = zoo_entry(name).models()
    unet = models["unet"].expected["unet"].parameters
    text = models["text_encoder"].expected["text_encoder"].parameters
    whole = unet + text + models["vae"].expected["vae_decoder"].parameters
    assert tuple(math.ceil(each / 1e7) / 100 for each in (unet, whole)) == CARD[name]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.Conv2d(6, 12, (3, 1), groups=3),
        nn.Sequential(nn.Conv2d(6, 4, 1), nn.GroupNorm(2, 4), nn.SiLU(), nn.Linear(9, 5)),
    ],
)
def test_half_of_the_flops_that_torch_counts(layer):
    inputs = torch.zeros(2, 6, 7, 9)
    with FlopCounterMode(display=False) as flops:
        layer(inputs)
    assert 2 * count(layer, lambda: layer(inputs)).macs == flops.get_total_flops()


def test_a_layer_norm_costs_four_per_input():
    norm = nn.LayerNorm(8)
    cost = count(norm, lambda: norm(torch.zeros(3, 5, 8)))
    assert (cost.parameters, cost.macs) == (16, 4 * 3 * 5 * 8)


def test_hooks_are_removed():
    layer = nn.Linear(2, 2)
    with pytest.raises(RuntimeError):
        count(layer, lambda: layer(torch.zeros(3)))
    assert not layer._forward_hooks


def test_convolutions_scale_with_the_latents():
    source = zoo_entry("sdxs-512-dreamshaper").source("vae")
    small, large = (component_costs(source, *size) for size in ((8, 16), (32, 16)))
    assert large["vae_decoder"].macs == 4 * small["vae_decoder"].macs
    assert large["vae_encoder"].macs == 4 * small["vae_encoder"].macs


def test_latents_without_pixels():
    with pytest.raises(OptionError, match="0 x 64 do not exist"):
        component_costs(zoo_entry("koala-1b").source("unet"), 0, 64)


def test_a_config_that_the_class_refuses():
    config = {"block_out_channels": [32], "down_block_types": ["NoSuchBlock2D"]}
    source = ComponentSource("unet", "diffusers", "UNet2DConditionModel", Path("x"), config)
    with pytest.raises(CheckpointError, match="UNet2DConditionModel refuses the config"):
        component_costs(source)
