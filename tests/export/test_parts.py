"""Which models a pipeline becomes, and in which precision."""

import pytest
import torch
from kdexport.core.options import ModelOptions, OnnxOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.parts import pipeline_parts

HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32


def parts(folder, precision, **extra):
    checkpoint = load_checkpoint(str(folder), extra=ModelOptions(**extra))
    options = OnnxOptions(precision=precision, with_encoder=True)
    found = pipeline_parts(checkpoint, options, 8)
    return {part.role: (part.precision, part.dtype) for part in found}


@pytest.mark.parametrize(
    ("precision", "text", "unet", "vae"),
    [
        ("fp32", ("fp32", SINGLE), ("fp32", SINGLE), ("fp32", SINGLE)),
        ("fp16", ("fp16", HALF), ("fp16", HALF), ("fp16", HALF)),
        ("mixed", ("mixed", HALF), ("mixed", HALF), ("mixed", HALF)),
        ("bf16", ("mixed", HALF), ("bf16", BRAIN), ("mixed", HALF)),
    ],
)
def test_precisions(micro_pipeline, precision, text, unet, vae):
    assert parts(micro_pipeline, precision) == {
        "text_encoder": text,
        "unet": unet,
        "vae_decoder": vae,
        "vae_encoder": vae,
    }


@pytest.mark.parametrize("precision", ["mixed", "bf16"])
def test_the_vae_of_sdxl_stays_in_float32(narrow, precision):
    found = parts(narrow("koala-700m"), precision)
    assert found["unet"] == (precision, BRAIN if precision == "bf16" else HALF)
    assert found["text_encoder_2"] == ("mixed", HALF)
    assert found["vae_decoder"] == found["vae_encoder"] == ("fp32", SINGLE)


def test_controlnets_are_bfloat16_too(micro, micro_pipeline, tmp_path):
    micro.save_controlnet(tmp_path, micro_pipeline, 4)
    found = parts(micro_pipeline, "bf16", controlnet=str(tmp_path / "controlnet"))
    assert found["controlnet"] == found["unet"] == ("bf16", BRAIN)
