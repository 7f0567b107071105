"""The tiny autoencoder: an AutoencoderTiny distilled from the AutoencoderKL, as TAESD was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from kdexport.calib.quality import held_out_scenes
from torch import Tensor

from .data import pictures, training_scenes
from .fit import Recipe, fit
from .latents import LatentSet
from .sheet import save_sheet

_WIDTH = 24
_ENCODER_ROWS = 4  # pictures per step for the encoder, which is the lesser half here
_NOISE = 0.05  # added to latents, so that the decoder forgives what a U-Net gets wrong


def make_tiny_autoencoder() -> AutoencoderTiny:
    """TAESD's layout with narrower layers and fewer of them."""
    return AutoencoderTiny(
        encoder_block_out_channels=(16,) * 4,
        decoder_block_out_channels=(_WIDTH,) * 4,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(2, 2, 2, 1),
    )


def train_tiny_autoencoder(
    folder: Path, recipe: Recipe, device: torch.device, data: LatentSet, teacher: AutoencoderKL
) -> AutoencoderTiny:
    """Trains the decoder on the teacher's pictures and the encoder on its latents.

    Both work on scaled latents, as diffusers' AutoencoderTiny does (its scaling factor is 1).
    """
    torch.manual_seed(recipe.seed)
    tiny = make_tiny_autoencoder().to(device, memory_format=torch.channels_last)
    scale = teacher.config.scaling_factor
    scenes, shown = training_scenes(2_000), pictures(list(held_out_scenes(8))).to(device)

    def loss(step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        latents, _ = data.batch(recipe.batch, generator)
        latents = latents + _NOISE * torch.randn(latents.shape, generator=generator)
        chosen = torch.randint(len(scenes), (_ENCODER_ROWS,), generator=generator)
        images = pictures([scenes[i] for i in chosen]).to(device)
        latents = latents.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                wanted = teacher.decode(latents / scale).sample.float()
                encoded = teacher.encode(images).latent_dist.mode().float() * scale
            drawn = tiny.decode(latents).sample.float()
            found = tiny.encode(images).latents.float()
        error = drawn - wanted
        return {
            "decoder_l1": error.abs().mean(),
            "decoder_l2": (error**2).mean(),
            "encoder": 0.1 * ((found - encoded) ** 2).mean(),
        }

    def sheet(path: Path) -> None:
        latents = teacher.encode(shown).latent_dist.mode()
        save_sheet(
            [shown, teacher.decode(latents).sample, tiny.decode(latents * scale).sample], path
        )

    fit(folder, tiny, recipe, loss, sheet)
    tiny.requires_grad_(False).eval()
    return tiny
