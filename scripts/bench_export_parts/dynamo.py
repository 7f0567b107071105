"""torch's own exporter with its defaults: the U-Net, two rows of one size, weights in memory."""

from __future__ import annotations

from typing import Any

import torch
from child import arguments, report
from diffusers import UNet2DConditionModel

ROWS, TOKENS = 2, 77

options = arguments()


def export() -> None:
    """One file."""
    unet = UNet2DConditionModel.from_pretrained(options.model / "unet", torch_dtype=torch.float32)
    config, side = unet.config, unet.config.sample_size
    added: dict[str, Any] = {}
    if config.addition_embed_type == "text_time":
        sizes = 6 * config.addition_time_embed_dim
        pooled = config.projection_class_embeddings_input_dim - sizes
        ids, text = torch.zeros(ROWS, 6), torch.zeros(ROWS, pooled)
        added["added_cond_kwargs"] = {"text_embeds": text, "time_ids": ids}
    positional = (
        torch.zeros(ROWS, config.in_channels, side, side),
        torch.tensor(1.0),
        torch.zeros(ROWS, TOKENS, config.cross_attention_dim),
    )
    with torch.no_grad():
        program = torch.onnx.export(
            unet.eval(), positional, kwargs={**added, "return_dict": False}, dynamo=True
        )
    options.output.mkdir(parents=True)
    assert program is not None
    program.save(options.output / "model.onnx", external_data=True)


report(export)
