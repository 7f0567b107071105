"""A pipeline as a manifest describes it, without exporting it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..core.architecture import architecture_digest
from ..core.checkpoint import Checkpoint
from ..core.manifest import SCHEMA_VERSION, Component, Manifest, Shapes
from ..core.options import OnnxOptions
from ..core.sampler import Sampler
from .bundle_files import bundle_defaults, sampler_records, source_record, tool_versions
from .controlnets import control_record
from .parts import Part, pipeline_parts
from .prepare import PreparedPipeline, prepare_pipeline
from .skeleton import build_skeleton
from .text import describe_tokenizer
from .to_onnx import MODEL_FILE, tensor_specs
from .weights import Weights


@dataclass(frozen=True)
class Description:
    """A described pipeline.

    Attributes:
        manifest: What the manifest of an ONNX bundle in float32 would say, of any size and batch;
            the files that it names do not exist.
        sampler: The model's own scheduler, compiled.
        architecture: `architecture_digest` of each component, by role.
    """

    manifest: Manifest
    sampler: Sampler
    architecture: Mapping[str, str]


def describe_pipeline(
    checkpoint: Checkpoint, max_steps: int, size: tuple[int, int] | None = None
) -> Description:
    """Describes a pipeline; hashes its weight files.

    Args:
        checkpoint: The pipeline.
        max_steps: Largest number of steps to compile its scheduler for, and so of its default.
        size: Image height and width in pixels that it must be able to draw, or None.

    Raises:
        KdexportError: See `prepare_pipeline`.
    """
    pipeline = prepare_pipeline(checkpoint, (), max_steps, False, [size or (None, None)])
    parts = pipeline_parts(checkpoint, OnnxOptions(), pipeline.latents.factor)
    manifest = _manifest(pipeline, tuple(_component(part, pipeline) for part in parts))
    return Description(manifest, pipeline.samplers[0], component_architecture(pipeline.weights))


def component_architecture(weights: Mapping[str, Weights]) -> dict[str, str]:
    """`architecture_digest` of each component, by role.

    Args:
        weights: The weights of each component, by its name in the pipeline.
    """
    return {
        _role(name): architecture_digest(
            {
                # transformers 5 leaves out what these names begin with in older versions.
                tensor.removeprefix("text_model."): stored.shape
                for tensor, stored in each.tensors.items()
            }
        )
        for name, each in weights.items()
    }


def _role(component: str) -> str:
    return "vae_decoder" if component == "vae" else component


def _component(part: Part, pipeline: PreparedPipeline) -> Component:
    wrapped = part.wrap(build_skeleton(pipeline.checkpoint.component(part.component), part.dtype))
    tensors = pipeline.weights[part.component].tensors.values()
    return Component(
        role=part.role,
        file=f"{part.role}/{MODEL_FILE}",
        precision=part.precision,
        inputs=tensor_specs(wrapped.inputs),
        outputs=tensor_specs(wrapped.outputs),
        parameters=sum(math.prod(tensor.shape) for tensor in tensors),
    )


def _manifest(pipeline: PreparedPipeline, components: tuple[Component, ...]) -> Manifest:
    checkpoint = pipeline.checkpoint
    samplers, shapes = sampler_records(pipeline), Shapes(pipeline.multiple, None, None, None)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        backend="onnx",
        family=checkpoint.family,
        tools=tool_versions(()),
        source=source_record(checkpoint),
        components=components,
        text=tuple(describe_tokenizer(checkpoint, name) for name in checkpoint.text_encoders),
        zero_negative=bool(checkpoint.index.get("force_zeros_for_empty_prompt", False)),
        latents=pipeline.latents,
        shapes=shapes,
        defaults=bundle_defaults(pipeline, samplers[0], shapes),
        samplers=samplers,
        control=control_record(checkpoint),
        guidance_embedding=checkpoint.component("unet").config.get("time_cond_proj_dim"),
    )
