"""optimum-onnx: the U-Net, as its `main_export` does it."""

from __future__ import annotations

import json

import torch
from child import arguments, report
from diffusers import UNet2DConditionModel
from optimum.exporters.onnx.convert import export as optimum_export
from optimum.exporters.tasks import TasksManager

options = arguments()


def export() -> None:
    """One file."""
    unet = UNet2DConditionModel.from_pretrained(options.model / "unet", torch_dtype=torch.float32)
    second = options.model / "text_encoder_2"
    encoder = second if second.is_dir() else options.model / "text_encoder"
    config = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
    unet.config.requires_aesthetics_score = False
    unet.config.text_encoder_projection_dim = config["projection_dim"]
    make = TasksManager.get_exporter_config_constructor(
        exporter="onnx",
        library_name="diffusers",
        task="semantic-segmentation",
        model_type="unet-2d-condition",
    )
    options.output.mkdir(parents=True)
    described = make(unet.config, int_dtype="int64", float_dtype="fp32")
    optimum_export(unet, described, options.output / "model.onnx")


report(export)
