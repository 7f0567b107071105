"""The one-step model: a BK-SDM-Tiny-shaped U-Net that draws what the student draws in many steps.

It learns from pairs of a noise and the latents that the guided student makes of it (knowledge
distillation of a deterministic sampler, arXiv 2101.02388), as SDXS does in its first phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from rich.progress import track
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .data import training_scenes
from .fit import Recipe, fit, save_whole
from .latents import tokenize
from .pipeline import GUIDANCE, assemble, caption_sheet, make_scheduler
from .unets import make_tiny_student

_STEPS = 10  # of the sampler that makes the pairs
_BATCH = 64
_HUBER = 0.1  # where the loss turns from squared to absolute; latents have unit variance


@dataclass(frozen=True)
class Pairs:
    """Noise, what the student makes of it, and the token ids of the caption.

    Attributes:
        noise: `(n, 4, 16, 16)` float16, unit variance.
        latents: Scaled latents, likewise.
        tokens: `(n, 32)` int64.
    """

    noise: Tensor
    latents: Tensor
    tokens: Tensor


def one_step_scheduler() -> EulerDiscreteScheduler:
    """As SDXS: Euler, trailing, so that a single step starts at pure noise; x0 is predicted."""
    config = dict(make_scheduler().config)
    return EulerDiscreteScheduler(
        beta_start=config["beta_start"],
        beta_end=config["beta_end"],
        beta_schedule=config["beta_schedule"],
        prediction_type="sample",
        steps_offset=1,  # without effect on a trailing grid; diffusers warns of any other value
        timestep_spacing="trailing",
    )


@torch.no_grad()
def make_pairs(
    file: Path,
    count: int,
    device: torch.device,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    student: UNet2DConditionModel,
) -> Pairs:
    """Reads the pairs from `file`, or draws them with the guided student and writes the file."""
    if not file.exists():
        tokens = tokenize(tokenizer, [scene.caption for scene in training_scenes(count)])
        empty = text_encoder(tokenize(tokenizer, [""]).to(device)).last_hidden_state
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((count, 4, 16, 16), generator=generator)
        pieces = []
        for start in track(range(0, count, _BATCH), description="drawing pairs"):
            part = slice(start, start + _BATCH)
            text = text_encoder(tokens[part].to(device)).last_hidden_state
            both = torch.cat([empty.expand_as(text), text])
            pieces.append(_denoised(student, noise[part].to(device), both).cpu())
        save_whole({"noise": noise, "latents": torch.cat(pieces), "tokens": tokens}, file)
    return Pairs(**torch.load(file, weights_only=True))


def _denoised(student: UNet2DConditionModel, noise: Tensor, text: Tensor) -> Tensor:
    scheduler = DPMSolverMultistepScheduler.from_config(
        make_scheduler().config, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(_STEPS)
    latents = noise * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        plain, guided = student(torch.cat([latents] * 2), time, text).sample.chunk(2)
        output = plain + GUIDANCE * (guided - plain)
        latents = scheduler.step(output, time, latents).prev_sample
    return latents


def train_one_step(
    folder: Path,
    recipe: Recipe,
    device: torch.device,
    pairs: Pairs,
    vae: nn.Module,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    student: UNet2DConditionModel,
) -> UNet2DConditionModel:
    """Trains on the pairs with a Huber loss on the latents."""
    torch.manual_seed(recipe.seed)
    model = make_tiny_student(student).to(device).requires_grad_(True).train()
    scheduler = one_step_scheduler()
    scheduler.set_timesteps(1)
    time = scheduler.timesteps[0]
    sigma = float(scheduler.sigmas[0])
    scale = scheduler.init_noise_sigma / (sigma**2 + 1) ** 0.5

    def loss(step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        chosen = torch.randint(len(pairs.noise), (recipe.batch,), generator=generator)
        noise, wanted, tokens = (
            each[chosen].to(device) for each in (pairs.noise, pairs.latents, pairs.tokens)
        )
        text = text_encoder(tokens).last_hidden_state
        found = model(noise * scale, time.to(device), text).sample
        return {"latents": nn.functional.huber_loss(found, wanted, delta=_HUBER) / _HUBER}

    whole = assemble(vae, tokenizer, text_encoder, model, one_step_scheduler())
    sheet = caption_sheet(whole, steps=1, guidance=0.0)
    fit(folder, model, recipe, loss, sheet)
    model.requires_grad_(False).eval()
    return model
