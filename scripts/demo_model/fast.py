"""The fast adapter: a LoRA with which the student draws in four steps and without guidance.

Guidance distillation (arXiv 2210.03142, section 3.1): in one call the adapted student learns
to give what the guided one gives in two, at the timesteps that the sampler visits.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from kdexport.core.folder import whole_folder
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .diffusion import Diffusion
from .fit import Recipe, fit
from .latents import LatentSet
from .pipeline import GUIDANCE, assemble, caption_sheet, make_scheduler

STEPS = 4
_RANK = 16
# Every linear layer and convolution between the first and the last.
_LAYERS = (
    *("to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2", "proj_in", "proj_out"),
    *("conv1", "conv2", "conv", "conv_shortcut", "time_emb_proj"),
)
_HEAVIEST = 8.0  # of the weights below, so that the first step does not drown the others


def fast_scheduler() -> DPMSolverMultistepScheduler:
    """DPM-Solver++ of second order from pure noise on."""
    config = make_scheduler().config
    return DPMSolverMultistepScheduler.from_config(config, timestep_spacing="trailing")


def train_fast(
    folder: Path,
    recipe: Recipe,
    device: torch.device,
    data: LatentSet,
    vae: nn.Module,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    student: UNet2DConditionModel,
) -> UNet2DConditionModel:
    """Trains the adapter on the guided student's output; gives a copy of the student with it."""
    torch.manual_seed(recipe.seed)
    adapted = copy.deepcopy(student).requires_grad_(False)
    adapted.add_adapter(LoraConfig(r=_RANK, lora_alpha=_RANK, target_modules=list(_LAYERS)))
    diffusion, scheduler = Diffusion(device), fast_scheduler()
    scheduler.set_timesteps(STEPS)
    products = scheduler.alphas_cumprod.to(device)
    # An error of the predicted noise is so many times larger in the predicted picture.
    weights = ((1 - products) / products).sqrt().clamp(max=_HEAVIEST)
    empty = text_encoder(data.empty[None].to(device)).last_hidden_state

    def loss(step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        batch = diffusion.batch(data, recipe.batch, generator, times=scheduler.timesteps)
        with torch.no_grad():
            text = text_encoder(batch.tokens).last_hidden_state
            both = torch.cat([empty.expand_as(text), text])
            plain, guided = student(
                torch.cat([batch.latents] * 2), torch.cat([batch.time] * 2), both
            ).sample.chunk(2)
            wanted = plain + GUIDANCE * (guided - plain)
        found = adapted(batch.latents, batch.time, text).sample
        errors = ((found - wanted) ** 2).flatten(1).mean(1)
        return {"guidance": (weights[batch.time] ** 2 * errors).mean()}

    whole = assemble(vae, tokenizer, text_encoder, adapted, fast_scheduler())
    fit(folder, adapted, recipe, loss, caption_sheet(whole, steps=STEPS, guidance=1.0))
    adapted.requires_grad_(False).eval()
    return adapted


def write_adapter(adapted: UNet2DConditionModel, folder: Path) -> None:
    """Writes the adapter as diffusers does, in float16, and `settings.json`: how it is run."""
    layers = {name: each.half() for name, each in get_peft_model_state_dict(adapted).items()}
    with whole_folder(folder, overwrite=True) as staging:
        StableDiffusionPipeline.save_lora_weights(staging, unet_lora_layers=layers)
        fast_scheduler().save_config(staging)
        scheduler = json.loads((staging / "scheduler_config.json").read_text(encoding="utf-8"))
        (staging / "scheduler_config.json").unlink()
        del scheduler["lambda_min_clipped"]  # its default, minus infinity, is no JSON
        settings = {"scheduler": scheduler, "defaults": {"steps": STEPS, "guidance": 1.0}}
        text = json.dumps(settings, indent=2) + "\n"
        (staging / "settings.json").write_text(text, encoding="utf-8")
