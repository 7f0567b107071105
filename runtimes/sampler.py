"""Walks through a compiled sampler one model call at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SamplerError
from ..core.sampler import SamplerTable

Array = NDArray[np.float32]


class Stepper:
    """The state of one image's denoising.

    Run it as `while not stepper.done: stepper.push(model(stepper.input(), stepper.timestep))`; then
    `latent()` is the result, and between calls the preview.
    """

    def __init__(self, table: SamplerTable, initial: Array, noise: Callable[[], Array]) -> None:
        """Starts before the first model call.

        Args:
            table: The compiled sampler.
            initial: Unit-variance initial noise, any shape, float32.
            noise: Draws fresh noise of the shape of `initial`; called as often as the scheduler
                drew, so that a seeded generator stays in step with diffusers.
        """
        self.table = table
        self._initial = initial
        self._noise = noise
        self._outputs: list[Array] = []
        self._noises: list[Array] = []

    @property
    def calls(self) -> int:
        """Model calls made so far."""
        return len(self._outputs)

    @property
    def done(self) -> bool:
        """Whether all model calls are made and `latent()` is the final latent."""
        return self.calls == self.table.calls

    @property
    def timestep(self) -> float:
        """The timestep of the next model call; raises `SamplerError` when there is none."""
        self._check_open()
        return self.table.timesteps[self.calls]

    def input(self) -> Array:
        """The scaled latent for the next model call; raises `SamplerError` when there is none."""
        self._check_open()
        return self._row()

    def push(self, output: Array) -> None:
        """Takes the (guided) model output of the next call.

        Args:
            output: The raw output, the shape of the initial noise.

        Raises:
            SamplerError: All calls are made, or the shape is another.
        """
        self._check_open()
        if output.shape != self._initial.shape:
            raise SamplerError(
                f"The model returned the shape {output.shape} for latents of the shape "
                f"{self._initial.shape}; export the model again."
            )
        draws = self.table.draws[self.calls]
        # A copy: engines hand out the same buffer at every call.
        self._outputs.append(np.array(output, np.float32))
        self._noises.extend(self._noise() for _ in range(draws))

    def latent(self) -> Array:
        """The latent after the calls made so far, without the scale of the model's input."""
        row = self._row()
        row /= np.float32(self.table.scale[self.calls])
        return row

    def _row(self) -> Array:
        return self.table.row(self.calls, self._initial, self._outputs, self._noises)

    def _check_open(self) -> None:
        if self.done:
            raise SamplerError(
                f"The sampler has made all of its {self.calls} model calls; start another one."
            )
