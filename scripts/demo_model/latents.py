"""The training set as latents and token ids, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from rich.progress import track
from torch import Tensor
from transformers import CLIPTokenizer

from .data import pictures, training_scenes
from .fit import save_whole

EMPTY = 0.1  # part of the captions that become empty, for guidance without a classifier


@dataclass(frozen=True)
class LatentSet:
    """Scaled latents of training pictures and the token ids of their captions.

    Attributes:
        mean: Of the posterior, `(n, 4, 16, 16)` float16.
        deviation: Of the posterior, likewise.
        tokens: `(n, 32)` int64.
        empty: Token ids of the empty caption, `(32,)`.
    """

    mean: Tensor
    deviation: Tensor
    tokens: Tensor
    empty: Tensor

    def batch(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sampled latents and token ids of a random batch, a tenth of them without caption."""
        chosen = torch.randint(len(self.mean), (rows,), generator=generator)
        mean, deviation = self.mean[chosen].float(), self.deviation[chosen].float()
        latents = mean + deviation * torch.randn(mean.shape, generator=generator)
        blank = torch.rand(rows, generator=generator) < EMPTY
        tokens = torch.where(blank[:, None], self.empty, self.tokens[chosen])
        return latents, tokens


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids, `(n, max_length)`, as the diffusers pipeline makes them."""
    length = tokenizer.model_max_length
    ids: Tensor = tokenizer(
        captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def latent_set(
    file: Path, count: int, model: AutoencoderKL, tokenizer: CLIPTokenizer, device: torch.device
) -> LatentSet:
    """Reads the set from `file`, or encodes it and writes the file."""
    if not file.exists():
        scenes, pieces = training_scenes(count), []
        for start in track(range(0, count, 64), description="encoding pictures"):
            images = pictures(scenes[start : start + 64]).to(device)
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
                posterior = model.encode(images).latent_dist
            pieces.append(torch.stack([posterior.mean, posterior.std]).float().cpu())
        both = (torch.cat(pieces, dim=1) * model.config.scaling_factor).half()
        tokens = tokenize(tokenizer, [scene.caption for scene in scenes])
        save_whole({"mean": both[0], "deviation": both[1], "tokens": tokens}, file)
    saved = torch.load(file, weights_only=True)
    return LatentSet(**saved, empty=tokenize(tokenizer, [""])[0])
