"""Gradients of the picture by every weight of a U-Net, through the whole denoising loop.

A backward pass per call of the loop, last call first: what reaches the input of a call is added to
what its other users have, by the weights of the sampler's table. Only one call is differentiated
at a time, so the memory is that of one.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .loop import Loop, LoopModules


@dataclass
class Reach:
    """How strongly noise at the input of each layer reaches the picture.

    Attributes:
        input: Sum of the squared gradients by the layer's input, by name of the layer.
    """

    input: dict[str, float] = field(default_factory=lambda: defaultdict(float))


class GradientFile:
    """The gradients of one projection on disk, as float16 with a scale per weight."""

    def __init__(self, path: Path) -> None:
        """Begins an empty file."""
        self._path = path
        self._places: dict[str, tuple[int, tuple[int, ...], float]] = {}
        self._end = 0
        path.write_bytes(b"")

    def add(self, name: str, gradient: Tensor) -> None:
        """Appends the gradient of a weight."""
        peak = float(gradient.abs().max()) or 1.0
        half = (gradient / peak).numpy().astype(np.float16)
        with self._path.open("ab") as file:
            half.tofile(file)
        self._places[name] = (self._end, half.shape, peak)
        self._end += half.nbytes

    def read(self, name: str) -> NDArray[np.float32]:
        """The gradient of a weight."""
        begin, shape, peak = self._places[name]
        with self._path.open("rb") as file:
            file.seek(begin)
            half = np.fromfile(file, np.float16, int(np.prod(shape)))
        return half.astype(np.float32).reshape(shape) * np.float32(peak)


def project(
    modules: LoopModules, loop: Loop, direction: Tensor, names: Sequence[str], reach: Reach
) -> None:
    """Leaves in `.grad` of the named weights the gradient of `direction` times the picture.

    Args:
        modules: U-Net and autoencoder.
        loop: The run.
        direction: A number for each value of the picture.
        names: The weights; they need no gradient before and after.
        reach: Where the squared gradients by inputs are added.
    """
    parameters = dict(modules.unet.named_parameters())
    samples, _ = loop.draw(modules.unet)
    latents = samples[-1].requires_grad_(True)
    torch.autograd.backward([loop.decode(modules.vae, latents)], [direction])
    assert latents.grad is not None
    loop = loop.differentiable()
    upstream: dict[int, Tensor] = {loop.table.calls: latents.grad}
    with _differentiated([parameters[name] for name in names]), _reaching(modules.unet, reach):
        for index in reversed(range(loop.table.calls)):
            weights = loop.table.outputs
            users = range(index + 1, loop.table.calls + 1)
            arriving = torch.stack([weights[row][index] * upstream[row] for row in users]).sum(0)
            sample = samples[index].requires_grad_(True)
            output = loop.guided(loop.call(modules.unet, sample, index))
            torch.autograd.backward([output], [arriving])
            assert sample.grad is not None
            upstream[index] = sample.grad


@contextlib.contextmanager
def _differentiated(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    for each in parameters:
        each.requires_grad_(True)
    try:
        yield
    finally:
        for each in parameters:
            each.requires_grad_(False)


@contextlib.contextmanager
def _reaching(unet: nn.Module, reach: Reach) -> Iterator[None]:
    """Sums the squared gradients at every layer for as long as the context is open."""

    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def add(_: nn.Module, by_input: object, __: object) -> None:
            tensor = by_input[0] if isinstance(by_input, tuple) else by_input
            if isinstance(tensor, Tensor):
                reach.input[name] += float(tensor.square().sum())

        return layer.register_full_backward_hook(add)

    handles = [
        watch(name, layer)
        for name, layer in unet.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def collect(modules: LoopModules, names: Sequence[str], file: GradientFile) -> None:
    """Moves the gradients of the named weights to a file."""
    parameters = dict(modules.unet.named_parameters())
    for name in names:
        gradient = parameters[name].grad
        if gradient is None:
            gradient = torch.zeros_like(parameters[name])
        file.add(name, gradient)
        parameters[name].grad = None


def mean_square_effect(
    name: str, change: NDArray[np.float32], files: Sequence[GradientFile]
) -> float:
    """Expected squared change of the picture, summed over its values, for a change of a weight.

    For directions of random signs, the mean square of what a change does along them is the square
    of what it does in all (Hutchinson's estimator).

    Args:
        name: The weight.
        change: What is added to it.
        files: The gradients of each projection.
    """
    flat = change.reshape(-1)
    effects = [float(file.read(name).reshape(-1) @ flat) ** 2 for file in files]
    return sum(effects) / len(effects)
