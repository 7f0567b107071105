"""Everything about an export to Core ML that can be checked before the first byte is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ...core.checkpoint import Checkpoint
from ...core.coreml_options import CoremlOptions
from ...core.errors import OptionError, RecipeError, listing
from ...core.formats import Format
from ...core.guidance import is_guided
from ...core.manifest import (
    SCHEMA_VERSION,
    CoremlRecord,
    Latents,
    Manifest,
    Shapes,
)
from ...core.ranges import Ranges
from ..bundle_files import bundle_defaults, sampler_records, source_record, tool_versions
from ..controlnets import control_record
from ..prepare import PreparedPipeline, prepare_pipeline
from ..skeleton import build_skeleton
from ..text import describe_tokenizer
from .parts import CoremlPart, baked_prediction, coreml_parts
from .plans import plan_of, recipe_weights
from .toolbox import coremltools
from .wrap_vae import LIBRARY_FACTORS

_TOOLS = ("coremltools",)


@dataclass(frozen=True)
class PreparedCoreml:
    """A checked export to Core ML; nothing is written yet.

    Attributes:
        pipeline: The pipeline; its latent space is that of Apple's library.
        options: How to export it.
        parts: The components to convert.
        sizes: Height and width in latent cells, the default first.
        plans: By role, the format of each weight that does not stay as it is.
        manifest: What the bundle's manifest will say, without what only the files tell: hashes,
            islands, compression.
    """

    pipeline: PreparedPipeline
    options: CoremlOptions
    parts: tuple[CoremlPart, ...]
    sizes: tuple[Mapping[str, int], ...]
    plans: Mapping[str, Mapping[str, Format]]
    manifest: Manifest

    @property
    def ranges(self) -> Ranges | None:
        """Ranges of activations by layer, where formats need them."""
        quantization = self.options.quantization
        return None if quantization is None else quantization.ranges

    @property
    def bytes_needed(self) -> int:
        """Upper bound of what the bundle takes on disk."""
        # Chunks are made of a whole package, and it of a float one, which lies beside it meanwhile.
        copies = 2 if self.options.chunk or self.plans else 1
        each = 4 if self.options.precision == "fp32" else 2
        return self.pipeline.bytes_needed((part.component, copies * each) for part in self.parts)


def prepare_coreml(checkpoint: Checkpoint, options: CoremlOptions) -> PreparedCoreml:
    """Checks everything that can be checked before the first byte is written.

    Raises:
        OptionError: A size does not fit the model, or it predicts noise already.
        RecipeError: The recipe does not fit the model.
        DependencyError: coremltools is not installed.
        KdexportError: See `prepare_pipeline`.
    """
    coremltools()
    epsilon = baked_prediction(checkpoint, options)
    if options.epsilon and epsilon is None:
        raise OptionError(f"'{checkpoint.model}' predicts noise already; leave out --epsilon.")
    pipeline = _pipeline(checkpoint, options)
    pixels = options.sizes or ((pipeline.image_size, pipeline.image_size),)
    embedding = checkpoint.component("unet").config.get("time_cond_proj_dim")
    guided = is_guided(float(checkpoint.defaults["guidance"]), embedding)
    rows = options.rows or (2 if guided else 1)
    parts = coreml_parts(checkpoint, options, rows)
    factor = pipeline.latents.factor
    return PreparedCoreml(
        pipeline=pipeline,
        options=options,
        parts=parts,
        sizes=tuple({"height": high // factor, "width": wide // factor} for high, wide in pixels),
        plans=_plans(checkpoint, options, parts),
        manifest=_manifest(checkpoint, pipeline, options, parts, pixels, rows),
    )


def _plans(
    checkpoint: Checkpoint, options: CoremlOptions, parts: Sequence[CoremlPart]
) -> dict[str, dict[str, Format]]:
    """Plans of the components that the recipe says something about."""
    quantization = options.quantization
    if quantization is None:
        return {}
    # The encoder is exported where it is asked for only.
    roles = [part.role for part in parts]
    unknown = sorted({*quantization.recipe.components} - {*roles, "vae_encoder"})
    if unknown:
        raise RecipeError(
            f"The recipe is about the {listing(unknown)}, which this export does not have; it has "
            f"{listing(roles)}."
        )
    plans = {}
    for part in parts:
        if any(form.kind != "float" for form in quantization.formats_of(part.role)):
            skeleton = build_skeleton(checkpoint.component(part.component), torch.float32)
            weights = recipe_weights(part.wrap(skeleton))
            plans[part.role] = plan_of(quantization.recipe, part.role, weights)
    return {role: plan for role, plan in plans.items() if plan}


def _pipeline(checkpoint: Checkpoint, options: CoremlOptions) -> PreparedPipeline:
    """The pipeline with its samplers for what the package predicts, and Apple's latent space."""
    if options.epsilon:
        scheduler = {**checkpoint.scheduler, "prediction_type": "epsilon"}
        checkpoint = replace(checkpoint, scheduler=scheduler)
    pipeline = prepare_pipeline(
        checkpoint, options.schedulers, options.max_steps, options.with_encoder, options.sizes
    )
    own = pipeline.latents
    latents = Latents(own.channels, own.factor, LIBRARY_FACTORS[checkpoint.family], 0.0)
    return replace(pipeline, latents=latents)


def _manifest(
    checkpoint: Checkpoint,
    pipeline: PreparedPipeline,
    options: CoremlOptions,
    parts: tuple[CoremlPart, ...],
    pixels: tuple[tuple[int, int], ...],
    rows: int,
) -> Manifest:
    only = pixels[0] if len(pixels) == 1 else (None, None)
    several = pixels if len(pixels) > 1 else ()
    shapes = Shapes(pipeline.multiple, only[0], only[1], None, sizes=several)
    factor = pipeline.latents.factor
    fixed = None if several else {"height": pixels[0][0] // factor, "width": pixels[0][1] // factor}
    samplers = sampler_records(pipeline)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        backend="coreml",
        family=checkpoint.family,
        tools=tool_versions(_TOOLS),
        source=source_record(checkpoint),
        components=tuple(part.describe(checkpoint, options.precision, fixed) for part in parts),
        text=tuple(describe_tokenizer(checkpoint, name) for name in checkpoint.text_encoders),
        zero_negative=bool(checkpoint.index.get("force_zeros_for_empty_prompt", False)),
        latents=pipeline.latents,
        shapes=shapes,
        defaults=bundle_defaults(pipeline, samplers[0], shapes),
        samplers=samplers,
        control=control_record(checkpoint),
        guidance_embedding=checkpoint.component("unet").config.get("time_cond_proj_dim"),
        coreml=CoremlRecord(
            target=options.target,
            compute_units=options.resolved_units,
            attention=options.attention,
            slice_size=options.resolved_slice,
            rows=rows,
            prediction="epsilon" if options.epsilon else None,
        ),
    )
