"""Everything about an export that can be checked before the first byte is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from ..core.checkpoint import Checkpoint
from ..core.errors import CheckpointError, OptionError
from ..core.image_sampler import ImageSampler
from ..core.manifest import Latents, Shapes
from ..core.options import OnnxOptions
from ..core.sampler import Sampler
from .adapters import fuse_adapters
from .image_sampler import compile_image_sampler
from .parts import Part, pipeline_parts
from .residuals import require_matching
from .sampler import compile_sampler, load_scheduler, make_scheduler
from .skeleton import build_skeleton, config_of, parameter_shapes
from .text import require_tokenizers
from .weights import Weights, open_weights
from .wrap import unet_factor, vae_factor

# Graphs, tokenizers, sampler tables and configs.
_SMALL_FILES = 64 << 20

# Name of the model's own scheduler among the bundle's samplers.
OWN_SCHEDULER = "default"


@dataclass(frozen=True)
class PreparedExport:
    """A checked export: nothing is written yet, and nothing about the weights is left to find out.

    Attributes:
        checkpoint: The pipeline.
        options: How to export it.
        parts: The models to write.
        weights: The opened weights of each component, by its name in the pipeline.
        samplers: The compiled samplers, the model's own first.
        image_samplers: Their starts for image to image, by name, where the bundle has an encoder.
        latents: The latent space.
        shapes: Which sizes the bundle will take.
        image_size: Edge of the images that the model was trained on, in pixels.
    """

    checkpoint: Checkpoint
    options: OnnxOptions
    parts: tuple[Part, ...]
    weights: dict[str, Weights]
    samplers: tuple[Sampler, ...]
    image_samplers: dict[str, ImageSampler]
    latents: Latents
    shapes: Shapes
    image_size: int

    @property
    def bytes_needed(self) -> int:
        """Upper bound of what the bundle takes on disk."""
        stored = sum(
            math.prod(tensor.shape) * part.dtype.itemsize
            for part in self.parts
            for tensor in self.weights[part.component].tensors.values()
        )
        return stored + _SMALL_FILES


def prepare_export(checkpoint: Checkpoint, options: OnnxOptions) -> PreparedExport:
    """Checks everything that can be checked before the first byte is written.

    Raises:
        CheckpointError: The pipeline lacks a tokenizer, or VAE or ControlNet do not fit the U-Net.
        WeightsError: A component's weights do not fit its config, or an adapter does not fit them.
        OptionError: The static size is not one that the model takes.
        SamplerError: A scheduler does not exist or cannot be compiled.
    """
    require_tokenizers(checkpoint)
    configs, weights = {}, {}
    for name, source in checkpoint.components.items():
        skeleton = build_skeleton(source, torch.float32)
        configs[name] = config_of(skeleton)
        weights[name] = open_weights(source, parameter_shapes(skeleton))
    weights = fuse_adapters(checkpoint, weights)
    unet, latents = configs["unet"], _latents(configs["vae"])
    if unet.in_channels != latents.channels:
        raise CheckpointError(
            f"The U-Net of '{checkpoint.model}' draws latents of {unet.in_channels} channels, and "
            f"its VAE decodes {latents.channels}; choose another --decoder."
        )
    if checkpoint.control:
        require_matching(configs, latents.factor)
    samplers, image_samplers = _samplers(checkpoint, options)
    return PreparedExport(
        checkpoint=checkpoint,
        options=options,
        parts=pipeline_parts(checkpoint, options, latents.factor),
        weights=weights,
        samplers=samplers,
        image_samplers=image_samplers,
        latents=latents,
        shapes=_shapes(checkpoint, options, latents.factor * unet_factor(unet)),
        image_size=unet.sample_size * latents.factor,
    )


def _samplers(
    checkpoint: Checkpoint, options: OnnxOptions
) -> tuple[tuple[Sampler, ...], dict[str, ImageSampler]]:
    own = load_scheduler(checkpoint.scheduler)
    schedulers = {OWN_SCHEDULER: own}
    schedulers |= {name: make_scheduler(name, own.config) for name in options.schedulers}
    steps = range(1, options.max_steps + 1)
    samplers = {name: compile_sampler(name, each, steps) for name, each in schedulers.items()}
    if not options.with_encoder:
        return tuple(samplers.values()), {}
    starts = {
        name: compile_image_sampler(each, samplers[name]) for name, each in schedulers.items()
    }
    return tuple(samplers.values()), {
        name: each for name, each in starts.items() if each is not None
    }


def _latents(vae: Any) -> Latents:
    return Latents(
        channels=vae.latent_channels,
        factor=vae_factor(vae),
        scaling_factor=float(vae.scaling_factor),
        shift_factor=float(getattr(vae, "shift_factor", None) or 0.0),
    )


def _shapes(checkpoint: Checkpoint, options: OnnxOptions, multiple: int) -> Shapes:
    for name in ("height", "width"):
        size = getattr(options, name)
        if size is not None and size % multiple:
            raise OptionError(
                f"The {name} {size} does not fit '{checkpoint.model}': it must be a multiple of "
                f"{multiple} pixels, for example {max(1, round(size / multiple)) * multiple}."
            )
    return Shapes(multiple, options.height, options.width, options.batch)
