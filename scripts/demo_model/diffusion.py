"""The forward process and the denoising loss that teacher and student share."""

from __future__ import annotations

import torch
from torch import Tensor

from .pipeline import make_scheduler

_GAMMA = 5.0


class Diffusion:
    """Stable Diffusion 1's noise schedule, predicting the noise."""

    def __init__(self, device: torch.device) -> None:
        products: Tensor = make_scheduler().alphas_cumprod
        self.signal = products.sqrt().to(device)
        self.noise = (1 - products).sqrt().to(device)
        ratio = products / (1 - products)
        # Min-SNR (arXiv 2303.09556): the easy, nearly clean steps do not drown the others.
        self.weight = (ratio.clamp(max=_GAMMA) / ratio).to(device)
        self.steps = len(products)

    def diffuse(self, latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Noisy latents at the timesteps `time`, `(rows,)`."""
        return self._at(self.signal, time) * latents + self._at(self.noise, time) * noise

    def clean(self, noisy: Tensor, predicted: Tensor, time: Tensor) -> Tensor:
        """The latents that a prediction of the noise implies."""
        return (noisy - self._at(self.noise, time) * predicted) / self._at(self.signal, time)

    def weighted(self, error: Tensor, time: Tensor) -> Tensor:
        """The mean over rows of a weighted squared error, `(rows, …)`."""
        return (self.weight[time] * (error**2).flatten(1).mean(1)).mean()

    @staticmethod
    def _at(values: Tensor, time: Tensor) -> Tensor:
        return values[time].view(-1, 1, 1, 1)
