"""The networks of a pipeline, narrow, converted by coremltools and compared with torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kdexport.runtimes.mil.package import read_package
from kdexport.runtimes.mil.precision import Simulated
from kdexport.runtimes.mil.toolbox import coremltools, quiet

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")


class Outputs(torch.nn.Module):
    """A model with a tuple of tensors as its result."""

    def __init__(self, inner, method="forward", take=1):
        super().__init__()
        self.inner, self.method, self.take = inner, method, take

    def forward(self, *inputs):
        result = getattr(self.inner, self.method)(*inputs, return_dict=False)
        return tuple(result)[: self.take]


class Masked(torch.nn.Module):
    """CLIP with a causal mask of its own, since transformers' cannot be converted."""

    def __init__(self, inner, length=9):
        super().__init__()
        self.inner = inner
        later = torch.ones(1, 1, length, length).triu(1)
        self.register_buffer("mask", later * -1e4)

    def forward(self, identifiers):
        result = self.inner(identifiers, attention_mask=self.mask, output_hidden_states=True)
        return result.hidden_states[-2], result[0]


def unet():
    return Outputs(
        diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(16, 32), layers_per_block=1, mid_block_type=None,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), norm_num_groups=4,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=16,
            attention_head_dim=4,
        )
    ), [torch.randn(2, 4, 8, 8), torch.tensor([999.0, 999.0]), torch.randn(2, 7, 16)]  # fmt: skip


def decoder():
    return Outputs(
        diffusers.AutoencoderKL(
            block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, sample_size=16,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
        ),
        "decode",
    ), [torch.randn(1, 4, 6, 6)]  # fmt: skip


def tiny_decoder():
    return Outputs(
        diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
        ),
        "decode",
    ), [torch.randn(1, 4, 6, 6)]  # fmt: skip


def text_encoder(kind):
    config = transformers.CLIPTextConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=9, projection_dim=8, hidden_act="quick_gelu",
        eos_token_id=49, bos_token_id=48, pad_token_id=49, attn_implementation="eager",
    )  # fmt: skip
    words = torch.tensor([[48, 3, 17, 5, 49, 49, 49, 49, 49]], dtype=torch.int32)
    return Masked(getattr(transformers, kind)(config)), [words]


MODELS = {
    "unet": unet,
    "decoder": decoder,
    "tiny decoder": tiny_decoder,
    "text encoder": lambda: text_encoder("CLIPTextModel"),
    "text encoder 2": lambda: text_encoder("CLIPTextModelWithProjection"),
}


@pytest.mark.parametrize(
    ("opset", "name"),
    [("iOS17", each) for each in MODELS] + [("iOS18", "unet"), ("iOS16", "tiny decoder")],
)
def test_as_torch_computes(mil, tmp_path, name, opset):
    torch.manual_seed(0)
    module, examples = MODELS[name]()
    module.eval()
    with torch.no_grad():
        references = [each.numpy() for each in module(*examples)]
    feed = mil.feed(examples)
    program = mil.converted(module, examples, opset)
    function = program.functions["main"]
    results = mil.Evaluator(function).run(feed).values()
    for result, reference in zip(results, references, strict=True):
        assert mil.relative(result, reference) < 1e-5
    if opset == "iOS18":
        assert "scaled_dot_product_attention" in {each.op_type for each in function.operations}
    written = halved(program, opset, tmp_path)
    halves = mil.Evaluator(written).run(feed).values()
    simulated = mil.Evaluator(function, Simulated(lambda operation: True)).run(feed).values()
    for half, same, reference in zip(halves, simulated, references, strict=True):
        assert mil.psnr(half, reference) > 50
        np.testing.assert_allclose(half, same, rtol=2e-3, atol=2e-3 * np.abs(reference).max())


def halved(program, opset, folder):
    """The same program, written as a float16 package and read back."""
    ct = coremltools()
    with quiet():
        model = ct.convert(
            program,
            source="milinternal",
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT16,
            minimum_deployment_target=getattr(ct.target, opset),
            skip_model_load=True,
        )
        model.save(str(folder / "half.mlpackage"))
    return read_package(folder / "half.mlpackage").function
