"""Everything about an export that can be checked before the first byte is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
from .quantize_onnx.plan import PartPlan, plan_parts
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
class PreparedPipeline:
    """A checked pipeline: nothing about its weights and schedulers is left to find out.

    Attributes:
        checkpoint: The pipeline.
        weights: The opened weights of each component, by its name in the pipeline.
        samplers: The compiled samplers, the model's own first.
        image_samplers: Their starts for image to image, by name, where the bundle has an encoder.
        latents: The latent space.
        multiple: Image height and width must be multiples of this many pixels.
        image_size: Edge of the images that the model was trained on, in pixels.
    """

    checkpoint: Checkpoint
    weights: dict[str, Weights]
    samplers: tuple[Sampler, ...]
    image_samplers: dict[str, ImageSampler]
    latents: Latents
    multiple: int
    image_size: int

    def bytes_needed(self, dtypes: Iterable[tuple[str, int]]) -> int:
        """Upper bound of what a bundle takes on disk.

        Args:
            dtypes: Component and bytes per weight of every model of the bundle.
        """
        return sum(self.weight_bytes(*each) for each in dtypes) + _SMALL_FILES

    def weight_bytes(self, component: str, size: int) -> int:
        """Bytes of a component's weights where each of them takes `size`."""
        tensors = self.weights[component].tensors.values()
        return sum(math.prod(tensor.shape) for tensor in tensors) * size


@dataclass(frozen=True)
class PreparedExport:
    """A checked export to ONNX; nothing is written yet.

    Attributes:
        pipeline: The pipeline.
        options: How to export it.
        parts: The models to write.
        shapes: Which sizes the bundle will take.
        plans: How their weights are stored, by role; models that are not named keep their type.
    """

    pipeline: PreparedPipeline
    options: OnnxOptions
    parts: tuple[Part, ...]
    shapes: Shapes
    plans: Mapping[str, PartPlan] = field(default_factory=dict)

    @property
    def bytes_needed(self) -> int:
        """Upper bound of what the bundle takes on disk."""
        return self.pipeline.bytes_needed(
            (part.component, part.dtype.itemsize) for part in self.parts
        )


def prepare_export(checkpoint: Checkpoint, options: OnnxOptions) -> PreparedExport:
    """Checks everything that can be checked before the first byte is written.

    Raises:
        KdexportError: See `prepare_pipeline`.
    """
    pipeline = prepare_pipeline(
        checkpoint,
        options.schedulers,
        options.max_steps,
        options.with_encoder,
        [(options.height, options.width)],
    )
    shapes = Shapes(pipeline.multiple, options.height, options.width, options.batch)
    parts = pipeline_parts(checkpoint, options, pipeline.latents.factor)
    plans = plan_pipeline(pipeline, parts, options, shapes)
    return PreparedExport(pipeline, options, parts, shapes, plans)


def plan_pipeline(
    pipeline: PreparedPipeline, parts: Sequence[Part], options: OnnxOptions, shapes: Shapes
) -> dict[str, PartPlan]:
    """How the weights of a pipeline's models are stored; see `plan_parts`.

    Args:
        pipeline: The pipeline.
        parts: Its models.
        options: How they are exported.
        shapes: The sizes that they take.
    """
    height, width = shapes.height or pipeline.image_size, shapes.width or pipeline.image_size
    latents = (height // pipeline.latents.factor, width // pipeline.latents.factor)
    return plan_parts(pipeline.checkpoint, parts, pipeline.weights, options, latents)


def prepare_pipeline(
    checkpoint: Checkpoint,
    schedulers: Sequence[str],
    max_steps: int,
    with_encoder: bool,
    sizes: Iterable[tuple[int | None, int | None]],
) -> PreparedPipeline:
    """Opens the weights of a pipeline and compiles its samplers.

    Args:
        checkpoint: The pipeline.
        schedulers: Names of schedulers to compile beside its own.
        max_steps: Largest number of steps to compile tables for.
        with_encoder: Also compile the starts of image to image.
        sizes: Image heights and widths in pixels that the export is for; None is any.

    Raises:
        OptionError: A size is not one that the model takes.
        CheckpointError: The pipeline lacks a tokenizer, or VAE or ControlNet do not fit the U-Net.
        WeightsError: A component's weights do not fit its config, or an adapter does not fit them.
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
    multiple = latents.factor * unet_factor(unet)
    for size in sizes:
        _require_size(checkpoint, size, multiple)
    # Last, for it takes seconds.
    samplers, image_samplers = _samplers(checkpoint, schedulers, max_steps, with_encoder)
    return PreparedPipeline(
        checkpoint=checkpoint,
        weights=weights,
        samplers=samplers,
        image_samplers=image_samplers,
        latents=latents,
        multiple=multiple,
        image_size=unet.sample_size * latents.factor,
    )


def _samplers(
    checkpoint: Checkpoint, names: Sequence[str], max_steps: int, with_encoder: bool
) -> tuple[tuple[Sampler, ...], dict[str, ImageSampler]]:
    own = load_scheduler(checkpoint.scheduler)
    schedulers = {OWN_SCHEDULER: own}
    schedulers |= {name: make_scheduler(name, own.config) for name in names}
    steps = range(1, max_steps + 1)
    samplers = {name: compile_sampler(name, each, steps) for name, each in schedulers.items()}
    if not with_encoder:
        return tuple(samplers.values()), {}
    starts = {
        name: compile_image_sampler(each, samplers[name]) for name, each in schedulers.items()
    }
    return tuple(samplers.values()), {
        name: each for name, each in starts.items() if each is not None
    }


def _require_size(
    checkpoint: Checkpoint, size: tuple[int | None, int | None], multiple: int
) -> None:
    for name, length in zip(("height", "width"), size, strict=True):
        if length is not None and length % multiple:
            nearest = max(1, round(length / multiple)) * multiple
            raise OptionError(
                f"The {name} {length} does not fit '{checkpoint.model}': it must be a multiple of "
                f"{multiple} pixels, for example {nearest}."
            )


def _latents(vae: Any) -> Latents:
    return Latents(
        channels=vae.latent_channels,
        factor=vae_factor(vae),
        scaling_factor=float(vae.scaling_factor),
        shift_factor=float(getattr(vae, "shift_factor", None) or 0.0),
    )
