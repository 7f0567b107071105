"""The teacher and the text encoder, which learn together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .diffusion import Diffusion
from .fit import Recipe, fit
from .latents import LatentSet
from .pipeline import assemble, caption_sheet
from .text import make_text_encoder
from .unets import make_teacher


def train_teacher(
    folder: Path,
    recipe: Recipe,
    device: torch.device,
    data: LatentSet,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Trains both with the denoising loss on noisy latents."""
    torch.manual_seed(recipe.seed)
    both = nn.ModuleDict({"unet": make_teacher(), "text": make_text_encoder(tokenizer)}).to(device)
    diffusion = Diffusion(device)

    def loss(step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        batch = diffusion.batch(data, recipe.batch, generator)
        text = both["text"](batch.tokens).last_hidden_state
        predicted = both["unet"](batch.latents, batch.time, text).sample
        return {"denoising": diffusion.weighted(predicted - batch.noise, batch.time)}

    sheet = caption_sheet(assemble(vae, tokenizer, both["text"], both["unet"]))
    fit(folder, both, recipe, loss, sheet)
    both.requires_grad_(False).eval()
    return both["unet"], both["text"]
