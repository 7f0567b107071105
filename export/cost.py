"""Parameters and multiply-accumulates of a component, counted on the meta device in seconds.

The counting rule is the one that BK-SDM's published figures use, thop 0.1.1.post2209072238 (see
https://github.com/Nota-NetsPresso/BK-SDM/issues/53); other counters give other numbers:

- Conv2d: output elements x input channels / groups x kernel area;
- Linear: output elements x input features;
- LayerNorm: 4 x input elements;
- everything else nothing: biases, group norms, activations, resampling and attention's products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..core.checkpoint import ComponentSource
from ..core.errors import OptionError
from .residuals import pixels_per_cell
from .skeleton import build_skeleton

TOKENS = 77


@dataclass(frozen=True)
class Cost:
    """Size of a component.

    Attributes:
        parameters: Number of parameters.
        macs: Multiply-accumulates of one forward pass with batch 1.
    """

    parameters: int
    macs: int


def component_costs(
    source: ComponentSource,
    latent_height: int = 64,
    latent_width: int = 64,
    tokens: int = TOKENS,
) -> dict[str, Cost]:
    """Counts the parts of a component that an export runs.

    Args:
        source: A U-Net, ControlNet, text encoder or VAE; only its class and config are used.
        latent_height: Height of the latents, in latent pixels.
        latent_width: Width of the latents.
        tokens: Length of the text.

    Returns:
        The costs by part: `vae_decoder` and `vae_encoder` for a VAE (the 1x1 convolutions between
        them and the latents are not counted), the component's own name otherwise.

    Raises:
        OptionError: The latents have no pixels.
        CheckpointError: The class refuses the config.
    """
    runs = _runs(source, (latent_height, latent_width), tokens)
    return {part: count(run.module, run.forward) for part, run in runs.items()}


def layer_macs(
    source: ComponentSource, latent_height: int = 64, latent_width: int = 64
) -> dict[str, dict[str, int]]:
    """Counts the convolutions and linear layers of a component one by one.

    Args:
        source: See `component_costs`.
        latent_height: Height of the latents, in latent pixels.
        latent_width: Width of the latents.

    Returns:
        By part as in `component_costs`, the multiply-accumulates of each layer by its path in the
        component's module.

    Raises:
        OptionError: The latents have no pixels.
        CheckpointError: The class refuses the config.
    """
    runs = _runs(source, (latent_height, latent_width))
    return {
        part: {run.prefix + name: macs for name, macs in _by_layer(run, _WEIGHTED).items()}
        for part, run in runs.items()
    }


def count(module: nn.Module, forward: Callable[[], object]) -> Cost:
    """Counts `module` by thop's rule while `forward` runs it.

    Args:
        module: The module; its parameters may be on the meta device.
        forward: Runs the module once.
    """
    macs = _by_layer(_Run(module, forward), (*_WEIGHTED, nn.LayerNorm))
    return Cost(sum(each.numel() for each in module.parameters()), sum(macs.values()))


_WEIGHTED = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class _Run:
    """A module, what runs it once, and what its layers' names begin with in the component."""

    module: nn.Module
    forward: Callable[[], object]
    prefix: str = ""


def _by_layer(run: _Run, kinds: tuple[type[nn.Module], ...]) -> dict[str, int]:
    """Multiply-accumulates of each layer of some kinds, in the order in which they run."""
    tally: dict[str, int] = {}
    with torch.no_grad(), _counting(run.module, kinds, tally):
        run.forward()
    return tally


@contextmanager
def _counting(
    module: nn.Module, kinds: tuple[type[nn.Module], ...], tally: dict[str, int]
) -> Iterator[None]:
    def hook(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def add(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            tally[name] = tally.get(name, 0) + _macs(layer, inputs[0], output)

        return add

    handles = [
        layer.register_forward_hook(hook(name))
        for name, layer in module.named_modules()
        if isinstance(layer, kinds)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _macs(layer: nn.Module, first: torch.Tensor, output: torch.Tensor) -> int:
    if isinstance(layer, nn.Conv2d):
        height, width = layer.kernel_size
        return output.numel() * layer.in_channels // layer.groups * height * width
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    return 4 * first.numel()


def _runs(source: ComponentSource, size: tuple[int, int], length: int = TOKENS) -> dict[str, _Run]:
    """What is run of a component, by part, for latents of a size."""
    if min(size) < 1:
        raise OptionError(f"Latents of {size[0]} x {size[1]} do not exist; use 64 x 64.")
    module: Any = build_skeleton(source, torch.float32).to("meta")
    if source.name == "vae":
        return _vae_runs(module, size)
    if source.name in {"unet", "controlnet"}:
        inputs = _unet_inputs(module.config, size, length)
        if source.name == "controlnet":
            inputs["controlnet_cond"] = _picture(module.config, size)
        return {source.name: _Run(module, lambda: module(**inputs))}
    tokens = torch.zeros(1, length, dtype=torch.long, device="meta")
    return {source.name: _Run(module, lambda: module(tokens))}


def _vae_runs(module: Any, size: tuple[int, int]) -> dict[str, _Run]:
    levels = len(module.config.block_out_channels)
    factor = 2 ** (levels - 1)
    latents = torch.empty(1, module.config.latent_channels, *size, device="meta")
    pixels = (factor * size[0], factor * size[1])
    images = torch.empty(1, module.config.in_channels, *pixels, device="meta")
    return {
        "vae_decoder": _Run(module.decoder, lambda: module.decoder(latents), "decoder."),
        "vae_encoder": _Run(module.encoder, lambda: module.encoder(images), "encoder."),
    }


def _picture(config: Any, size: tuple[int, int]) -> torch.Tensor:
    pixels = pixels_per_cell(config)
    channels = config.conditioning_channels
    return torch.empty(1, channels, pixels * size[0], pixels * size[1], device="meta")


def _unet_inputs(config: Mapping[str, Any], size: tuple[int, int], length: int) -> dict[str, Any]:
    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(1, *shape, device="meta")

    inputs: dict[str, Any] = {
        "sample": empty(config["in_channels"], *size),
        "timestep": empty()[0],
        "encoder_hidden_states": empty(length, config["cross_attention_dim"]),
    }
    if config["addition_embed_type"] == "text_time":
        # SDXL: six numbers, each embedded, beside the pooled text embedding.
        pooled = config["projection_class_embeddings_input_dim"]
        pooled -= 6 * config["addition_time_embed_dim"]
        inputs["added_cond_kwargs"] = {"text_embeds": empty(pooled), "time_ids": empty(6)}
    if config.get("time_cond_proj_dim") is not None:
        inputs["timestep_cond"] = empty(config["time_cond_proj_dim"])
    return inputs
