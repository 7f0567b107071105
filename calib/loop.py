"""The denoising loop of diffusers' own modules, as something to differentiate and to draw again.

A compiled sampler makes every latent a weighted sum of the initial noise and the outputs of the
U-Net (`core/sampler.py`). So the loop can be drawn with other weights in seconds, and what an
error inside one call does to the picture follows from one backward pass per call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core.checkpoint import Checkpoint
from ..core.errors import OptionError
from ..core.sampler import SamplerTable
from ..runtimes.denoise import first_latents
from ..runtimes.noise import TorchNoise
from ..runtimes.plan import Plan
from ..runtimes.torch_lora import fuse_adapters
from ..runtimes.torch_pipeline import load_component, make_pipeline
from ..runtimes.torch_recording import Trajectory
from ..runtimes.torch_ref import record_trajectories

Report = Callable[[str, float], None]
# What is fed to the U-Net beside the latents: keyword arguments of its `forward`.
Conditioning = Mapping[str, Any]

_ADDED = ("text_embeds", "time_ids")


@dataclass(frozen=True, eq=False)
class Loop:
    """One run of a pipeline, its text already encoded.

    Attributes:
        plan: What is drawn.
        table: The sampler.
        initial: The first noise, `(images, channels, height, width)`.
        noises: The fresh noises, in the order in which they are drawn.
        conditioning: What the U-Net is fed beside the latents.
        scaling: Scaling and shift factor of the autoencoder.
    """

    plan: Plan
    table: SamplerTable
    initial: Tensor
    noises: tuple[Tensor, ...]
    conditioning: Conditioning
    scaling: tuple[float, float]

    def latents(self, row: int, outputs: Sequence[Tensor]) -> Tensor:
        """A row of the sampler's table: the input of a call, or at the end the final latents."""
        total = self.initial * self.table.initial[row]
        for weight, output in zip(self.table.outputs[row], outputs, strict=False):
            total = total + weight * output
        for weight, noise in zip(self.table.noise[row], self.noises, strict=False):
            total = total + weight * noise
        return total

    def call(self, unet: nn.Module, sample: Tensor, index: int) -> Tensor:
        """The output of the U-Net at a call, a row for each of the conditioning."""
        rows = torch.cat([sample, sample]) if self.plan.guided else sample
        # Differentiable, like all else that layers read: a hook at a layer wants an input that is.
        timestep = torch.tensor(self.table.timesteps[index], requires_grad=True)
        output: Tensor = unet(rows, timestep, return_dict=False, **self.conditioning)[0]
        return output

    def differentiable(self) -> Loop:
        """The same run, whose conditioning takes gradients."""
        conditioning = {}
        for name, value in self.conditioning.items():
            parts = value if isinstance(value, dict) else {name: value}
            leaves = {each: tensor.clone().requires_grad_() for each, tensor in parts.items()}
            conditioning[name] = leaves if isinstance(value, dict) else leaves[name]
        return replace(self, conditioning=conditioning)

    def guided(self, output: Tensor) -> Tensor:
        """Classifier-free guidance, where the plan has it."""
        if not self.plan.guided:
            return output
        negative, positive = output.chunk(2)
        return negative + self.plan.guidance * (positive - negative)

    def draw(self, unet: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        """Runs the loop.

        Returns:
            What each call was fed and, at the end, the final latents; and what the U-Net gave.
        """
        samples, raw, outputs = [self.latents(0, [])], [], []
        with torch.no_grad():
            for index in range(self.table.calls):
                raw.append(self.call(unet, samples[-1], index))
                outputs.append(self.guided(raw[-1]))
                samples.append(self.latents(index + 1, outputs))
        return samples, raw

    def decode(self, vae: nn.Module, latents: Tensor) -> Tensor:
        """The picture of final latents, `(images, 3, height, width)`, -1 to 1 and a little over."""
        factor, shift = self.scaling
        decoder: Any = vae
        image: Tensor = decoder.decode(latents / factor + shift, return_dict=False)[0]
        return image


@dataclass(frozen=True, eq=False)
class LoopModules:
    """The modules that a loop is run with, float32, and the loops."""

    unet: nn.Module
    vae: nn.Module
    loops: tuple[Loop, ...]


def open_loops(
    checkpoint: Checkpoint, plans: Sequence[Plan], table: SamplerTable, report: Report
) -> LoopModules:
    """Encodes the prompts of some plans and loads what draws them.

    Args:
        checkpoint: The pipeline.
        plans: What to draw, all with the steps of `table`.
        table: The compiled sampler.
        report: Told what is being done and how far it is, 0 to 1.

    Raises:
        OptionError: The pipeline has a ControlNet.
        CheckpointError: diffusers or transformers cannot load a component.
    """
    if checkpoint.control:
        raise OptionError(
            "The sensitivity of a U-Net is measured without a ControlNet; leave --controlnet out."
        )
    runs = record_trajectories(checkpoint, plans, report)
    loops = tuple(_loop(run, table) for run in runs)
    unet, vae = load_drawing_modules(checkpoint)
    return LoopModules(unet, vae, loops)


def load_drawing_modules(checkpoint: Checkpoint) -> tuple[nn.Module, nn.Module]:
    """U-Net and autoencoder with the adapters fused, float32, whose weights take no gradients."""
    parts = {name: load_component(checkpoint.component(name)) for name in ("unet", "vae")}
    fuse_adapters(make_pipeline(checkpoint, parts, checkpoint.pipeline_class), checkpoint)
    for part in parts.values():
        part.requires_grad_(False)
    return parts["unet"], parts["vae"]


def unet_arguments(arrays: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a U-Net is fed beside latents and timestep, as keyword arguments of its `forward`.

    Args:
        arrays: By the names that a bundle's inputs have.
    """
    arguments: dict[str, Any] = {"encoder_hidden_states": arrays["encoder_hidden_states"]}
    if all(name in arrays for name in _ADDED):
        arguments["added_cond_kwargs"] = {name: arrays[name] for name in _ADDED}
    if "timestep_cond" in arrays:
        arguments["timestep_cond"] = arrays["timestep_cond"]
    return arguments


def _loop(run: Trajectory, table: SamplerTable) -> Loop:
    stream = TorchNoise(run.plan.seed)
    initial = torch.from_numpy(first_latents(stream, run.plan, None))
    noises = [torch.from_numpy(stream.normal(run.plan.latent_shape)) for _ in table.noise[-1]]
    feed = next(case.feed for case in run.cases if case.role == "unet")
    arrays = {name: torch.from_numpy(array) for name, array in feed.items()}
    return Loop(run.plan, table, initial, tuple(noises), unet_arguments(arrays), run.scaling)
