"""ControlNets and the U-Nets that they steer, with Apple's inputs and outputs."""

import copy

import diffusers
import pytest
import torch
from kdexport.core.compare import compare
from kdexport.core.errors import OptionError
from kdexport.export.coreml.convert import to_program
from kdexport.export.coreml.wrap_control import AppleControlledUnet, AppleControlNet

TOKENS = 12
SIZE = {"height": 8, "width": 6}
ATTENTIONS = ["original", "split-einsum", "split-einsum-v2", "sdpa"]


@pytest.fixture(
    scope="module",
    params=[(False, False), (True, False), (False, True)],
    ids=["no mid block", "mid block", "sdxl"],
)
def pair(request, micro, tmp_path_factory):
    """A U-Net and a ControlNet with random weights, and inputs for both."""
    mid, sdxl = request.param
    folder = tmp_path_factory.mktemp("control")
    kind = "UNetMidBlock2DCrossAttn" if mid else None
    config = {**micro.UNET, "mid_block_type": kind, **(micro.SDXL if sdxl else {})}
    _, unet = micro.save(folder, "unet", "UNet2DConditionModel", config)
    _, control = micro.save(
        folder, "controlnet", "ControlNetModel", micro.controlnet_config(config, 4)
    )
    torch.manual_seed(1)
    inputs = [
        torch.randn(2, 4, 8, 6),
        torch.tensor([981.0, 20.0]),
        torch.randn(2, 24, 1, TOKENS),
    ]
    extra = []
    if sdxl:
        ids = torch.tensor([[1024.0, 768, 0, 0, 1024, 768]] * 2)
        extra = [ids, torch.randn(2, 20)]
    for module in (unet, control):
        module.requires_grad_(False)
    return unet, control, [*inputs, *extra], torch.rand(2, 3, 32, 24)


def diffusers_inputs(inputs):
    sample, timestep, text, *extra = inputs
    added = {"time_ids": extra[0], "text_embeds": extra[1]} if extra else None
    return {
        "sample": sample,
        "timestep": timestep,
        "encoder_hidden_states": text.squeeze(2).mT,
        "added_cond_kwargs": added,
        "return_dict": False,
    }


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_both_are_those_of_diffusers(pair, attention):
    unet, control, inputs, picture = pair
    theirs = diffusers_inputs(inputs)
    down, mid = control(**theirs, controlnet_cond=picture, conditioning_scale=0.7)
    (wanted,) = unet(
        **theirs, down_block_additional_residuals=down, mid_block_additional_residual=mid
    )
    net = AppleControlNet(copy.deepcopy(control), attention, tokens=TOKENS, scale=0.7)
    residuals = net(*inputs, picture)
    for got, one in zip(residuals, (*down, mid), strict=True):
        assert compare(got.numpy(), one.numpy()).relative_l2 < 1e-5
    module = AppleControlledUnet(copy.deepcopy(unet), attention, tokens=TOKENS)
    (got,) = module(*inputs, *residuals)
    assert compare(got.numpy(), wanted.numpy()).relative_l2 < 1e-5
    # The last residual counts, also where there is no mid block.
    (without,) = module(*inputs, *residuals[:-1], torch.zeros_like(mid))
    assert compare(without.numpy(), wanted.numpy()).relative_l2 > 1e-3


def test_the_contract(pair):
    unet, control, inputs, _ = pair
    net = AppleControlNet(copy.deepcopy(control), tokens=TOKENS)
    module = AppleControlledUnet(copy.deepcopy(unet), tokens=TOKENS)
    names = [f"additional_residual_{index}" for index in range(len(net.outputs))]
    common = ["sample", "timestep", "encoder_hidden_states"]
    common += ["time_ids", "text_embeds"][: len(inputs) - 3]
    assert [port.name for port in net.inputs] == [*common, "controlnet_cond"]
    assert [port.name for port in net.outputs] == names
    assert [port.name for port in module.inputs] == [*common, *names]
    assert [port.name for port in module.outputs] == ["noise_pred"]
    assert net.inputs[-1].sizes(SIZE) == (2, 3, 32, 24)
    given, taken = net.outputs, module.inputs[-len(names) :]
    assert [each.sizes(SIZE) for each in given] == [each.sizes(SIZE) for each in taken]
    assert {each.dtype for each in given} == {torch.float32}
    assert {each.dtype for each in taken} == {torch.float16}
    assert given[0].alias == "down_block_residual_0"
    assert given[-1].alias == "mid_block_residual"


def test_rows_that_apple_does_not_feed(micro):
    control = diffusers.ControlNetModel(**micro.controlnet_config(micro.UNET, 4))
    with pytest.raises(OptionError, match="1 or 2 rows, not 4"):
        AppleControlNet(control, rows=4)


def test_coremltools_follows_both(micro):
    pytest.importorskip("coremltools")
    small = {
        "block_out_channels": (8,),
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("UpBlock2D",),
    }
    config = {**micro.UNET, **small}
    control = diffusers.ControlNetModel(**micro.controlnet_config(config, 4))
    for module in (
        AppleControlNet(control, "split-einsum", rows=1, tokens=TOKENS),
        AppleControlledUnet(
            diffusers.UNet2DConditionModel(**config), "split-einsum", rows=1, tokens=TOKENS
        ),
    ):
        main = to_program(module, [SIZE], "iOS17").functions["main"]
        assert list(main.inputs) == [port.name for port in module.inputs]
        for got, port in zip(main.outputs, module.outputs, strict=True):
            assert got.name == port.name
            assert tuple(got.shape) == port.sizes(SIZE)
