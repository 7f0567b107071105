"""Writes trained parts as diffusers folders, float16."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from kdexport.calib.quality import WORLD_KEY
from kdexport.core.folder import whole_folder
from kdexport.export.pipeline_folder import DEFAULTS_KEY


def write_pipeline(
    pipeline: StableDiffusionPipeline, tokenizer: Path, folder: Path, steps: int, guidance: float
) -> None:
    """Writes a pipeline, and into its `model_index.json` how it is meant to be run.

    Args:
        pipeline: What to write; it stays in float32.
        tokenizer: The tokenizer's folder, copied as it is: transformers would write another form.
        folder: The folder to make or replace.
        steps: Default number of denoising steps.
        guidance: Default guidance scale.
    """
    with whole_folder(folder, overwrite=True) as staging:
        halved = copy.deepcopy(pipeline).to(dtype=torch.float16)
        for module in (halved.unet, halved.vae, halved.text_encoder):
            module.to(memory_format=torch.contiguous_format)
        halved.save_pretrained(staging, safe_serialization=True)
        shutil.rmtree(staging / "tokenizer")
        shutil.copytree(tokenizer, staging / "tokenizer")
        file = staging / "model_index.json"
        index = json.loads(file.read_text(encoding="utf-8"))
        index |= {WORLD_KEY: 1, DEFAULTS_KEY: {"steps": steps, "guidance": guidance}}
        file.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_autoencoder(tiny: AutoencoderTiny, folder: Path) -> None:
    """Writes the tiny autoencoder."""
    with whole_folder(folder, overwrite=True) as staging:
        halved = copy.deepcopy(tiny).to(memory_format=torch.contiguous_format).half()
        halved.save_pretrained(staging, safe_serialization=True)
