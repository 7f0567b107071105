"""What diffusers' modules are fed and give back, recorded under the names of the bundle's ports."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from .control_ref import added_residuals, controlnet_feed, residual_arrays
from .plan import Plan

Arrays = dict[str, NDArray[Any]]
# A forward hook; what it returns, if anything, becomes the output.
Hook = Callable[[Any, tuple[Any, ...], dict[str, Any], Any], Any]
# Asked at every call whether it is to be recorded.
Wanted = Callable[[], bool]


@dataclass(frozen=True)
class Case:
    """What a component was fed, and what it gave, by the names of the bundle's ports."""

    role: str
    label: str
    feed: Arrays
    expected: Arrays


class Sink(Protocol):
    """Takes component calls as they come."""

    def wants(self, run: Trajectory) -> bool:
        """Whether the coming call of the U-Net, and of a ControlNet before it, is to be taken.

        Those of the other components always are.

        Args:
            run: The run; it has as many timesteps as there were calls of the U-Net.
        """

    def take(self, run: Trajectory, case: Case) -> None:
        """Takes a call, whose arrays hold until this returns; of a decoder without its output."""


@dataclass
class Trajectory:
    """One recorded run.

    Attributes:
        plan: What was drawn.
        sink: What takes the component calls, or None to keep them. With one, neither latents nor
            images are kept.
        cases: The component calls.
        timesteps: The timestep of every model call.
        latents: The latents after every call, `(images, channels, height, width)`, float32.
        images: The pictures, `(images, height, width, 3)`, 8-bit.
        scaling: Scaling and shift factor of the autoencoder.
    """

    plan: Plan
    sink: Sink | None = None
    cases: list[Case] = field(default_factory=list)
    timesteps: list[float] = field(default_factory=list)
    latents: list[NDArray[np.float32]] = field(default_factory=list)
    images: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0, 0, 3), np.uint8))
    scaling: tuple[float, float] = (1.0, 0.0)

    def take(self, case: Case) -> None:
        """Keeps a component call, or hands it on."""
        if self.sink is None:
            self.cases.append(case)
        else:
            self.sink.take(self, case)


def text_hook(role: str, run: Trajectory) -> Hook:
    """Records the calls of a text encoder: embeddings, and every hidden state it was asked for."""

    def hook(_: Any, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        ids = inputs[0] if inputs else keywords["input_ids"]
        expected = {
            name: output[name].numpy().copy()
            for name in ("text_embeds", "last_hidden_state", "pooler_output")
            if output.get(name) is not None
        }
        for index, state in enumerate(output.get("hidden_states") or ()):
            expected[f"hidden_states.{index}"] = state.numpy().copy()
        run.take(Case(role, f"{len(ids)} rows", {"input_ids": ids.numpy()}, expected))

    return hook


def unet_hook(run: Trajectory, wanted: Wanted) -> Hook:
    """Records the calls of the U-Net that are wanted."""

    def hook(_: Any, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        if wanted():
            label, feed = _fed(run, inputs, keywords)
            feed |= added_residuals(keywords)
            run.take(Case("unet", label, feed, {"out_sample": output[0].numpy().copy()}))

    return hook


def controlnet_hook(run: Trajectory, wanted: Wanted) -> Hook:
    """Records the calls of the ControlNet that are wanted."""

    def hook(module: Any, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        if module.config.addition_embed_type is None:
            # The SDXL pipeline passes what its ControlNet may ignore.
            keywords = {**keywords, "added_cond_kwargs": None}
        if wanted():
            label, feed = _fed(run, inputs, keywords)
            feed |= controlnet_feed(keywords)
            run.take(Case("controlnet", label, feed, residual_arrays(*output)))

    return hook


def _fed(run: Trajectory, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[str, Arrays]:
    """Label and inputs of a call, as far as U-Net and ControlNet have them in common."""
    sample, timestep = inputs[:2]
    feed = {
        "sample": sample.numpy().copy(),
        "timestep": np.array(float(timestep), np.float32),
        "encoder_hidden_states": keywords["encoder_hidden_states"].numpy(),
    }
    added = keywords.get("added_cond_kwargs") or {}
    if keywords.get("timestep_cond") is not None:
        added = {**added, "timestep_cond": keywords["timestep_cond"]}
    feed |= {name: tensor.float().numpy() for name, tensor in added.items()}
    label = f"{run.plan.height}x{run.plan.width}, {len(sample)} rows, t={float(timestep):g}"
    return label, feed


@contextlib.contextmanager
def hooked(module: Any, hook: Hook) -> Iterator[None]:
    """Keeps a hook on a module for as long as the context is open."""
    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def recording_decoder(vae: Any, run: Trajectory) -> Iterator[None]:
    """Records what the VAE decodes for as long as the context is open."""
    original = vae.decode

    def decode(latents: Any, *inputs: Any, **keywords: Any) -> Any:
        output = original(latents, *inputs, **keywords)
        image = output[0] if isinstance(output, tuple) else output.sample
        label = f"{run.plan.height}x{run.plan.width}, {len(latents)} rows"
        case = {"latent_sample": latents.numpy().copy()}, {"sample": image.numpy().copy()}
        run.take(Case("vae_decoder", label, *case))
        return output

    # The pipeline calls a method, not the module, so a forward hook would miss it.
    vae.decode = decode
    try:
        yield
    finally:
        del vae.decode


@contextlib.contextmanager
def instead_of_decoding(vae: Any, run: Trajectory) -> Iterator[None]:
    """Records what the VAE is to decode for as long as the context is open; gives grey pictures."""

    def decode(latents: Any, *_: Any, **__: Any) -> Any:
        label = f"{run.plan.height}x{run.plan.width}, {len(latents)} rows"
        run.take(Case("vae_decoder", label, {"latent_sample": latents.numpy().copy()}, {}))
        return (torch.zeros(len(latents), 3, run.plan.height, run.plan.width),)

    vae.decode = decode
    try:
        yield
    finally:
        del vae.decode


def record_encoder(vae: Any, run: Trajectory) -> None:
    """Runs the VAE encoder on the pictures of a run and records it."""
    pixels = torch.from_numpy(run.images.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    encoded = vae.encode(pixels)
    if hasattr(encoded, "latents"):
        expected = {"latent_sample": encoded.latents.numpy()}
    else:
        expected = {"latent_parameters": encoded.latent_dist.parameters.numpy()}
    label = f"{run.plan.height}x{run.plan.width}, {len(pixels)} rows"
    run.take(Case("vae_encoder", label, {"sample": pixels.numpy()}, expected))
