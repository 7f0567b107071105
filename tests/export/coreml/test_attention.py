"""Every form of attention in the networks of the zoo, against the modules of diffusers."""

import copy

import diffusers
import pytest
import torch
from accelerate import init_empty_weights
from kdexport.core.compare import compare
from kdexport.export.coreml.attention import ATTENTIONS, coreml_attention, is_channels_first
from kdexport.export.coreml.wrap_unet import AppleUnet
from kdexport.export.narrow import narrow_twin
from kdexport.export.zoo import zoo

VARIANTS = [
    ("original", None),
    ("original", 50),  # 128 tokens: 50 + 50 + 28
    ("split-einsum", None),
    ("split-einsum-v2", None),
    ("split-einsum-v2", 50),
    ("sdpa", None),
]
# With a mid block; without; linear projections; the guidance scale as an input; cross-attention in
# the place of self-attention; transformers of several depths without and with a mid block; with one
# that has no attention, and depths that differ within a block.
NETS = (
    *("bk-sdm-base", "bk-sdm-small", "bk-sdm-v2-tiny", "edgefusion-guided", "sdxs-512-0.9"),
    *("koala-700m", "diffengine-small-sd-xl", "ssd-1b"),
)
TOLERANCE = 1e-5


def test_the_networks_are_what_they_are_meant_to_be():
    configs = {name: narrow_twin(zoo()[name]).unet.config for name in NETS}
    assert configs["bk-sdm-small"]["mid_block_type"] is None
    assert configs["koala-700m"]["mid_block_type"] is None
    assert configs["bk-sdm-base"].get("mid_block_type", "a default") is not None
    assert any(configs["sdxs-512-0.9"]["only_cross_attention"])
    assert configs["edgefusion-guided"]["time_cond_proj_dim"]
    assert configs["bk-sdm-v2-tiny"]["use_linear_projection"]
    assert isinstance(configs["ssd-1b"]["transformer_layers_per_block"], list)


@pytest.fixture(scope="module")
def networks():
    """Makes a U-Net once, with inputs for it and what diffusers makes of them."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = reference(randomized(narrow_twin(zoo()[name]).unet.config))
        return made[name]

    return get


def randomized(config):
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel.from_config(dict(config)).eval().requires_grad_(False)
    for parameter in unet.parameters():
        if parameter.ndim == 1:  # norms and biases away from one and zero
            parameter.add_(0.1 * torch.randn_like(parameter))
    return unet


def reference(unet, size=None):
    module = AppleUnet(copy.deepcopy(unet))
    torch.manual_seed(1)
    inputs = {port.name: torch.randn(port.sizes(size or SIZE)) for port in module.inputs}
    inputs["timestep"] = torch.tensor([981.0, 1.0])
    added = None
    if "time_ids" in inputs:
        inputs["time_ids"] = torch.tensor([[1024.0, 768, 0, 8, 1024, 1024]] * 2)
        added = {key: inputs[key] for key in ("text_embeds", "time_ids")}
    with torch.no_grad():
        wanted = unet(
            inputs["sample"],
            inputs["timestep"],
            inputs["encoder_hidden_states"].squeeze(2).mT,
            timestep_cond=inputs.get("timestep_cond"),
            added_cond_kwargs=added,
        ).sample
    return unet, tuple(inputs.values()), wanted


SIZE = {"height": 16, "width": 8}


@pytest.mark.parametrize(("attention", "slice_size"), VARIANTS)
@pytest.mark.parametrize("name", NETS)
def test_unets(networks, name, attention, slice_size):
    unet, inputs, wanted = networks(name)
    module = AppleUnet(copy.deepcopy(unet), attention, slice_size)
    with torch.no_grad():
        (got,) = module(*inputs)
    difference = compare(got.numpy(), wanted.numpy())
    assert difference.relative_l2 < TOLERANCE
    # The weights are the same memory, by the same names.
    assert module.inner.state_dict().keys() == unet.state_dict().keys()


def test_slices_of_512_at_48_by_48(micro):
    """2304 tokens are four slices and a half."""
    unet, inputs, wanted = reference(randomized(micro.UNET), {"height": 48, "width": 48})
    module = AppleUnet(unet, "split-einsum-v2")
    with torch.no_grad():
        (got,) = module(*inputs)
    assert compare(got.numpy(), wanted.numpy()).relative_l2 < TOLERANCE


@pytest.mark.parametrize("name", ["GELU", "ApproximateGELU"])
def test_other_activations(micro, name):
    unet = randomized(micro.UNET)
    layer = getattr(diffusers.models.activations, name)
    for each in unet.modules():
        if isinstance(each, diffusers.models.attention.FeedForward):
            old = each.net[0].proj
            each.net[0] = layer(old.in_features, old.out_features // 2)
    unet, inputs, wanted = reference(unet)
    with torch.no_grad():
        (got,) = AppleUnet(unet, "split-einsum")(*inputs)
    assert compare(got.numpy(), wanted.numpy()).relative_l2 < TOLERANCE


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_weights_stay_where_they_are(micro, attention):
    unet = randomized(micro.UNET)
    before = {name: (each.shape, each.data_ptr()) for name, each in unet.named_parameters()}
    coreml_attention(unet, attention, None)
    assert before == {name: (each.shape, each.data_ptr()) for name, each in unet.named_parameters()}


@pytest.mark.parametrize("attention", ["original", "split-einsum"])
def test_weights_can_come_later(micro, attention):
    """A network is wrapped before its weights are read."""
    unet, inputs, wanted = reference(randomized(micro.UNET))
    with init_empty_weights(include_buffers=False):
        empty = diffusers.UNet2DConditionModel.from_config(dict(unet.config))
    module = AppleUnet(empty, attention)
    module.inner.load_state_dict(unet.state_dict(), assign=True)
    with torch.no_grad():
        (got,) = module(*inputs)
    assert compare(got.numpy(), wanted.numpy()).relative_l2 < TOLERANCE


@pytest.mark.parametrize(("attention", "slice_size"), VARIANTS)
def test_vae(micro, attention, slice_size):
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(**micro.VAE).eval().requires_grad_(False)
    latents, image = torch.randn(1, 4, 12, 9), torch.randn(1, 3, 48, 36)
    wanted = vae.decode(latents).sample, vae.encode(image).latent_dist.parameters
    coreml_attention(vae, attention, slice_size)
    got = vae.decode(latents).sample, vae.encode(image).latent_dist.parameters
    for one, other in zip(got, wanted, strict=True):
        assert compare(one.numpy(), other.numpy()).relative_l2 < TOLERANCE


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_vae_without_attention(micro, attention):
    vae = diffusers.AutoencoderTiny(**micro.TINY).eval().requires_grad_(False)
    latents = torch.randn(1, 4, 6, 4)
    wanted = vae.decode(latents).sample
    coreml_attention(vae, attention, None)
    assert torch.equal(vae.decode(latents).sample, wanted)


def test_an_upcast_changes_nothing(micro):
    unet, inputs, wanted = reference(randomized({**micro.UNET, "upcast_attention": True}))
    with torch.no_grad():
        (got,) = AppleUnet(unet, "split-einsum")(*inputs)
    assert compare(got.numpy(), wanted.numpy()).relative_l2 < TOLERANCE


def test_the_layouts():
    assert [each for each in ATTENTIONS if is_channels_first(each)] == [
        "split-einsum",
        "split-einsum-v2",
    ]
