"""Noise from what other models predict: Apple's package takes every prediction for noise.

With the latents `x = sqrt(a) * x0 + sqrt(1 - a) * noise`, where `a` is the cumulative product of
the alphas at the timestep, a model may predict the velocity `sqrt(a) * noise - sqrt(1 - a) * x0` or
the sample `x0` instead of the noise.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...core.errors import OptionError
from ...core.options import require_choice

# diffusers puts 2**-24 in the place of a zero at the last timestep; Stable Diffusion ends at 0.005.
_LEAST = 1e-6

PREDICTIONS = ("epsilon", "v_prediction", "sample")


class ToEpsilon(nn.Module):
    """A velocity or a sample to the noise, by the timestep.

    Between two timesteps the logarithm of sigma, `sqrt((1 - a) / a)`, is interpolated: with Karras
    or other spacings of sigma, diffusers' schedulers find their fractional timesteps by just that
    rule, so this is its inverse. Rounding the timestep would be off by up to half a step. At whole
    timesteps, which are all that Apple's package uses, it is exact.
    """

    log_sigmas: Tensor

    def __init__(self, prediction: str, alphas_cumprod: Tensor) -> None:
        """Takes the noise levels.

        Args:
            prediction: What the model predicts: `v_prediction` or `sample`.
            alphas_cumprod: `(timesteps,)`, between 0 and 1.

        Raises:
            OptionError: It predicts something else, or the last timestep is pure noise.
        """
        super().__init__()
        require_choice(prediction, PREDICTIONS[1:], "prediction that becomes noise")
        levels = alphas_cumprod.double()
        if not bool((levels > _LEAST).all()):
            raise OptionError(
                "The scheduler ends in pure noise (rescale_betas_zero_snr), in which there is no "
                "sample left for Apple's schedulers to find; export without baking the prediction "
                "to epsilon, or with a scheduler config that does not rescale the betas."
            )
        self.prediction = prediction
        log_sigmas = (0.5 * ((1 - levels) / levels).log()).float()
        self.register_buffer("log_sigmas", log_sigmas, persistent=False)

    def forward(self, predicted: Tensor, sample: Tensor, timestep: Tensor) -> Tensor:
        """The noise.

        Args:
            predicted: What the model gives, `(rows, channels, height, width)`.
            sample: The latents that it was given; channels beyond those of `predicted` are ignored.
            timestep: `(rows,)`, whole or fractional.
        """
        sigma = self._sigma(timestep)[:, None, None, None]
        # Only where there are more: coremltools cannot follow a slice of everything.
        if sample.shape[1] > predicted.shape[1]:
            sample = sample[:, : predicted.shape[1]]
        # sqrt(a) and sqrt(1 - a).
        signal = (sigma * sigma + 1).rsqrt()
        noise = sigma * signal
        if self.prediction == "v_prediction":
            return signal * predicted + noise * sample
        return (sample - signal * predicted) / noise

    def _sigma(self, timestep: Tensor) -> Tensor:
        last = self.log_sigmas.shape[0] - 1
        timestep = timestep.clamp(0, last)
        below = timestep.floor()
        above = (below + 1).clamp(max=last)
        low, high = self.log_sigmas[below.int()], self.log_sigmas[above.int()]
        return (low + (timestep - below) * (high - low)).exp()


def to_epsilon(scheduler: Any) -> ToEpsilon | None:
    """What turns the predictions of a model into noise, by its diffusers scheduler.

    Returns:
        None where the model predicts noise.

    Raises:
        OptionError: It predicts something unknown, or its last timestep is pure noise.
    """
    prediction = str(scheduler.config.get("prediction_type", "epsilon"))
    require_choice(prediction, PREDICTIONS, "prediction that Core ML can turn into noise")
    if prediction == "epsilon":
        return None
    return ToEpsilon(prediction, scheduler.alphas_cumprod)
