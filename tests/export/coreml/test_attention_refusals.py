"""Attention that does not exist, and layers that have no channels-first form."""

import diffusers
import pytest
import torch
from kdexport.core.errors import CheckpointError, OptionError
from kdexport.export.coreml.attention import coreml_attention


@pytest.mark.parametrize(
    ("attention", "slice_size", "message"),
    [
        ("fused", None, "no attention for Core ML 'fused'; choose original, split-einsum, .* sdpa"),
        ("sdpa", 64, "'sdpa' takes all queries at once; leave out the slice size"),
        ("split-einsum", 64, "choose original or split-einsum-v2"),
        ("original", 0, "slice size must be at least 1, not 0"),
        ("split-einsum-v2", -1, "slice size must be at least 1, not -1"),
    ],
)
def test_options_that_do_not_exist(attention, slice_size, message):
    with pytest.raises(OptionError, match=message):
        coreml_attention(torch.nn.Identity(), attention, slice_size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_type": "gated", "cross_attention_dim": 24}, "uses fuser"),
        (
            {
                "down_block_types": ("SimpleCrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "SimpleCrossAttnUpBlock2D"),
            },
            "uses added_kv_proj_dim",
        ),
    ],
)
def test_layers_that_have_no_channels_first_form(micro, change, message):
    unet = diffusers.UNet2DConditionModel(**{**micro.UNET, **change})
    kinds = [type(each) for each in unet.modules()]
    with pytest.raises(CheckpointError, match=f"{message}.*choose the attention original or sdpa"):
        coreml_attention(unet, "split-einsum", None)
    # Nothing was changed halfway.
    assert [type(each) for each in unet.modules()] == kinds


def test_an_activation_without_a_channels_first_form(micro):
    unet = diffusers.UNet2DConditionModel(**micro.UNET)
    for each in unet.modules():
        if isinstance(each, diffusers.models.attention.FeedForward):
            each.net[0] = diffusers.models.activations.SwiGLU(16, 64)
    with pytest.raises(CheckpointError, match="uses SwiGLU,"):
        coreml_attention(unet, "split-einsum", None)
