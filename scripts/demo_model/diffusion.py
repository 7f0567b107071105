"""The forward process and the denoising loss that teacher and student share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .latents import LatentSet
from .pipeline import make_scheduler

_GAMMA = 5.0


@dataclass(frozen=True)
class Noisy:
    """A batch on its device: `(rows, 4, 16, 16)` latents with noise, the noise, and what it is of.

    Attributes:
        latents: The noisy latents.
        noise: What a U-Net is to predict.
        time: Timesteps, `(rows,)`.
        tokens: Token ids of the captions, `(rows, 32)`.
    """

    latents: Tensor
    noise: Tensor
    time: Tensor
    tokens: Tensor


class Diffusion:
    """Stable Diffusion 1's noise schedule, predicting the noise."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.scheduler = make_scheduler()
        products: Tensor = self.scheduler.alphas_cumprod
        ratio = products / (1 - products)
        # Min-SNR (arXiv 2303.09556): the easy, nearly clean steps do not drown the others.
        self.weight = (ratio.clamp(max=_GAMMA) / ratio).to(device)

    def batch(
        self,
        data: LatentSet,
        rows: int,
        generator: torch.Generator,
        times: Tensor | None = None,
    ) -> Noisy:
        """A random batch with noise of random strength, or of that at some of `times`."""
        latents, tokens = data.batch(rows, generator)
        noise = torch.randn(latents.shape, generator=generator)
        choices = torch.arange(len(self.weight)) if times is None else times
        time = choices[torch.randint(len(choices), (rows,), generator=generator)]
        latents, tokens, noise, time = (x.to(self.device) for x in (latents, tokens, noise, time))
        return Noisy(self.scheduler.add_noise(latents, noise, time), noise, time, tokens)

    def weighted(self, error: Tensor, time: Tensor) -> Tensor:
        """The mean over rows of a weighted squared error, `(rows, …)`."""
        return (self.weight[time] * (error**2).flatten(1).mean(1)).mean()
