"""The teacher and the text encoder, which learn together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from kdexport.calib.quality import held_out_scenes
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .diffusion import Diffusion
from .fit import Recipe, fit
from .latents import LatentSet
from .pipeline import assemble, draw
from .sheet import save_pictures
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
        latents, tokens = data.batch(recipe.batch, generator)
        noise = torch.randn(latents.shape, generator=generator)
        time = torch.randint(diffusion.steps, (recipe.batch,), generator=generator)
        latents, tokens, noise, time = (x.to(device) for x in (latents, tokens, noise, time))
        text = both["text"](tokens).last_hidden_state
        predicted = both["unet"](diffusion.diffuse(latents, noise, time), time, text).sample
        return {"denoising": diffusion.weighted(predicted - noise, time)}

    captions = [scene.caption for scene in held_out_scenes(16)]

    def sheet(path: Path) -> None:
        save_pictures(draw(assemble(vae, tokenizer, both["text"], both["unet"]), captions), path)

    fit(folder, both, recipe, loss, sheet)
    both.requires_grad_(False).eval()
    return both["unet"], both["text"]
