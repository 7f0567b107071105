"""The autoencoder: an AutoencoderKL with factor 8, and how it learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from kdexport.calib.quality import held_out_scenes
from kdexport.calib.world.scene import SIZE, Scene
from torch import Tensor, nn

from .data import pictures, training_scenes
from .fit import Recipe, fit
from .latents import LatentSet
from .sheet import save_sheet

SCENES = 20_000
_CROP = 64  # pixels; the first part of the run sees crops, which are cheaper
_DISTURBANCE = 0.03  # standard deviation, of latents with unit variance
_KL = 1e-4  # weight of the divergence, per latent element against an L1 loss per pixel


def make_autoencoder() -> AutoencoderKL:
    """SD 1's autoencoder, narrow and with one layer per block.

    Groups are wide (8 channels and more): a norm over few channels of a flat picture keeps little
    more than signs, and flat colours are what this world is made of.
    """
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=SIZE,
    )


def train_autoencoder(
    folder: Path,
    recipe: Recipe,
    device: torch.device,
    start: AutoencoderKL | None = None,
) -> AutoencoderKL:
    """Trains it, and sets `scaling_factor` so that the latents have unit variance.

    Args:
        folder: Of the stage.
        recipe: How.
        device: Where.
        start: Without it the run begins with random weights and on crops, which are cheaper. With
            it the run goes on from these weights, on whole pictures, and outlines count, too;
            counted from the start they keep the network from finding the colours.
    """
    torch.manual_seed(recipe.seed)
    model = (start or make_autoencoder()).to(device, memory_format=torch.channels_last)
    model.requires_grad_(True).train()
    scenes = training_scenes(SCENES)

    def loss(step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        crops = start is None and step < recipe.steps * 0.6
        rows = recipe.batch * (4 if crops else 1)
        chosen = torch.randint(len(scenes), (rows,), generator=generator)
        images = pictures([scenes[i] for i in chosen])
        if crops:
            images = _cropped(images, generator)
        images = images.to(device, memory_format=torch.channels_last)
        size = (rows, 4, images.shape[2] // 8, images.shape[3] // 8)
        noise = torch.randn(size, generator=generator).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = model.encode(images).latent_dist
            output = model.decode(posterior.mean + posterior.std * noise).sample.float()
        error = output - images
        divergence = 0.5 * (posterior.mean.float() ** 2 + posterior.var - 1 - posterior.logvar)
        losses = {"l1": error.abs().mean(), "l2": (error**2).mean(), "kl": _KL * divergence.mean()}
        return losses if start is None else losses | {"edges": _edges(error)}

    fit(folder, model, recipe, loss, _reconstructions(model, device))
    model.requires_grad_(False).eval()
    model.register_to_config(scaling_factor=_scaling(model, scenes[:256], device))
    return model


def train_decoder(
    folder: Path, recipe: Recipe, device: torch.device, data: LatentSet, model: AutoencoderKL
) -> None:
    """Trains the decoder on with the encoder as it is, so that the U-Nets' latents stay valid.

    The latents get a little noise: those of a U-Net are never quite those of a picture.
    """
    torch.manual_seed(recipe.seed)
    decoder = nn.ModuleList([model.post_quant_conv, model.decoder])
    decoder.requires_grad_(True).train()
    scenes = training_scenes(len(data.mean))
    scale = model.config.scaling_factor

    def loss(step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        chosen = torch.randint(len(scenes), (recipe.batch,), generator=generator)
        images = pictures([scenes[i] for i in chosen])
        images = images.to(device, memory_format=torch.channels_last)
        latents = data.mean[chosen].float()
        latents = latents + _DISTURBANCE * torch.randn(latents.shape, generator=generator)
        with torch.autocast(device.type, torch.bfloat16):
            error = model.decode(latents.to(device) / scale).sample.float() - images
        return {"l1": error.abs().mean(), "l2": (error**2).mean(), "edges": _edges(error)}

    fit(folder, decoder, recipe, loss, _reconstructions(model, device))
    model.requires_grad_(False).eval()


def _reconstructions(model: AutoencoderKL, device: torch.device) -> Callable[[Path], None]:
    """Gives the function that writes held-out pictures and, below, what the model makes of them."""
    shown = pictures(list(held_out_scenes(8))).to(device)

    def write(path: Path) -> None:
        save_sheet([shown, model.decode(model.encode(shown).latent_dist.mode()).sample], path)

    return write


def _edges(error: Tensor) -> Tensor:
    """What the error changes from pixel to pixel: blurred outlines and lost thin lines."""
    return error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()


def _cropped(images: Tensor, generator: torch.Generator) -> Tensor:
    """A square of every picture at a multiple of 8 pixels."""
    starts = torch.randint((SIZE - _CROP) // 8 + 1, (len(images), 2), generator=generator) * 8
    pieces = [
        image[:, top : top + _CROP, left : left + _CROP]
        for image, (top, left) in zip(images, starts.tolist(), strict=True)
    ]
    return torch.stack(pieces)


@torch.no_grad()
def _scaling(model: AutoencoderKL, scenes: list[Scene], device: torch.device) -> float:
    latents = model.encode(pictures(scenes).to(device)).latent_dist.mode()
    return round(1 / latents.std().item(), 5)
