"""The student: blocks removed, distilled as BK-SDM is (arXiv 2305.15798, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .diffusion import Diffusion
from .fit import Recipe, fit
from .latents import LatentSet
from .pipeline import assemble, caption_sheet
from .unets import make_student

# Of the three losses; BK-SDM gives each 1, on features of another scale.
_TASK, _OUTPUT, _FEATURES = 1.0, 1.0, 0.1


def train_student(
    folder: Path,
    recipe: Recipe,
    device: torch.device,
    data: LatentSet,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    teacher: UNet2DConditionModel,
) -> UNet2DConditionModel:
    """Trains with the denoising loss, the teacher's output, and its features after every block."""
    torch.manual_seed(recipe.seed)
    student = make_student(teacher).to(device)
    diffusion = Diffusion(device)

    def loss(step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        batch = diffusion.batch(data, recipe.batch, generator)
        with torch.no_grad(), _features(teacher) as wanted:
            text = text_encoder(batch.tokens).last_hidden_state
            target = teacher(batch.latents, batch.time, text).sample
        with _features(student) as found:
            predicted = student(batch.latents, batch.time, text).sample
        return {
            "denoising": _TASK * diffusion.weighted(predicted - batch.noise, batch.time),
            "output": _OUTPUT * diffusion.weighted(predicted - target, batch.time),
            "features": _FEATURES * _distance(found, wanted),
        }

    sheet = caption_sheet(assemble(vae, tokenizer, text_encoder, student))
    fit(folder, student, recipe, loss, sheet)
    student.requires_grad_(False).eval()
    return student


@contextmanager
def _features(unet: UNet2DConditionModel) -> Iterator[list[Tensor]]:
    """Collects what every down and up block returns during a forward pass."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, object]) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    blocks = [*unet.down_blocks, *unet.up_blocks]
    hooks = [block.register_forward_hook(keep) for block in blocks]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _distance(found: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """Mean squared distance per block, each relative to the size of the teacher's features."""
    terms = [
        ((ours - theirs) ** 2).mean() / (theirs**2).mean()
        for ours, theirs in zip(found, wanted, strict=True)
    ]
    return torch.stack(terms).mean()
