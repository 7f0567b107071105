"""Whole diffusers pipelines of the parts, for sample sheets and scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from kdexport.calib.quality import held_out_scenes
from numpy.typing import NDArray
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from .sheet import save_pictures

STEPS, GUIDANCE = 20, 2.0
_BATCH = 16
_SHEET = 16  # pictures


def make_scheduler() -> PNDMScheduler:
    """The scheduler of Stable Diffusion 1."""
    return PNDMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def assemble(
    vae: nn.Module,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    unet: nn.Module,
    scheduler: SchedulerMixin | None = None,
) -> StableDiffusionPipeline:
    """A pipeline of these parts."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler or make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def draw(
    pipeline: StableDiffusionPipeline,
    captions: list[str],
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> NDArray[np.uint8]:
    """Pictures of captions, `(n, 128, 128, 3)` 8-bit; caption i has noise of seed i."""
    pictures = []
    for start in range(0, len(captions), _BATCH):
        part = captions[start : start + _BATCH]
        seeds = [torch.Generator().manual_seed(start + i) for i in range(len(part))]
        result = pipeline(
            part,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=seeds,
            output_type="np",
        )
        pictures.append((result.images * 255).round().astype(np.uint8))
    return np.concatenate(pictures)


def caption_sheet(
    pipeline: StableDiffusionPipeline, *, steps: int = STEPS, guidance: float = GUIDANCE
) -> Callable[[Path], None]:
    """Gives the function that writes a sheet of held-out captions, as the weights then are."""
    captions = [scene.caption for scene in held_out_scenes(_SHEET)]

    def write(path: Path) -> None:
        save_pictures(draw(pipeline, captions, steps=steps, guidance=guidance), path)

    return write
