"""Everything about TensorRT engines that can be checked before the first byte is written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256

from ...core.checkpoint import Checkpoint
from ...core.gpus import Gpu
from ...core.guidance import is_guided
from ...core.manifest import Shapes
from ...core.options import OnnxOptions, VerifyOptions
from ...core.profiles import Profile, require_drawable
from ...core.tensorrt_options import TensorrtOptions
from ..bundle_files import source_record, tool_versions
from ..parts import pipeline_parts
from ..prepare import PreparedExport, plan_pipeline, prepare_pipeline
from .build import require_timing_cache
from .cache import engine_bytes
from .formats import require_formats
from .key import RECIPE
from .libraries import library_version
from .memory import require_memory
from .targets import named_targets, resolve_targets

# Precision of the engines to the precision of the ONNX files that they are built from: hazards are
# in float32 inside a float16 graph, since TensorRT computes strictly in the types that it is given.
_PRECISIONS = {"fp16": "mixed", "bf16": "bf16", "fp32": "fp32"}


@dataclass(frozen=True)
class PreparedTensorrt:
    """A checked export to TensorRT; nothing is written yet.

    Attributes:
        onnx: The export of the ONNX files that the engines are built from.
        options: Of the engines.
        gpus: What they are for, one of each compute capability.
        profile: The sizes that they take.
    """

    onnx: PreparedExport
    options: TensorrtOptions
    gpus: tuple[Gpu, ...]
    profile: Profile

    @property
    def bytes_needed(self) -> int:
        """Estimate of what the bundle takes on disk, generous for weights."""
        engines = self.onnx.bytes_needed + len(self.onnx.parts) * engine_bytes(0)
        return self.onnx.bytes_needed + len(self.gpus) * engines


def prepare_tensorrt(checkpoint: Checkpoint, options: TensorrtOptions) -> PreparedTensorrt:
    """Checks everything that can be checked before the first byte is written.

    Raises:
        ExportError: There is too little memory for a build.
        OptionError: A GPU that such engines are not built for, or that lacks the precision or a
            format of the weights; a profile that is none, or has sizes that the model does not
            take.
        KdexportError: See `resolve_targets`, `prepare_pipeline` and `plan_pipeline`.
    """
    library_version(options.engine)
    gpus = resolve_targets(options)
    if options.quantization is not None:
        require_formats(options.quantization.formats, gpus)
    require_timing_cache(options.timing_cache)
    pipeline = prepare_pipeline(
        checkpoint, options.schedulers, options.max_steps, options.with_encoder, []
    )
    profile = Profile.parse(options.profile, pipeline.image_size)
    rows = rows_per_image(checkpoint)
    given = _onnx_options(options, profile, rows)
    shapes = Shapes(pipeline.multiple, given.height, given.width, given.batch)
    require_drawable(profile, shapes, rows)
    parts = pipeline_parts(checkpoint, given, pipeline.latents.factor)
    for part in parts:
        # Now, not after minutes of exporting and verifying.
        require_memory(pipeline.weight_bytes(part.component, part.dtype.itemsize), part.role)
    plans = plan_pipeline(pipeline, parts, given, shapes)
    onnx = PreparedExport(pipeline, given, parts, shapes, plans)
    return PreparedTensorrt(onnx, options, gpus, profile)


def request_digest(
    checkpoint: Checkpoint,
    options: TensorrtOptions,
    verify: VerifyOptions | None,
    quantize: str | None = None,
) -> str:
    """SHA-256 of all that a bundle depends on: weights, options and the versions of the tools.

    Args:
        checkpoint: The pipeline.
        options: Of the engines.
        verify: How the bundle is compared, or None.
        quantize: SHA-256 of what weights of few bits are made from, which is known before the
            ranges of activations are measured; None takes the quantization of the options itself.

    Raises:
        ProviderError: The GPU of this machine is named, and there is none.
        DependencyError: The library that builds such engines is not installed.
    """
    asked = {
        "source": asdict(source_record(checkpoint)),
        "defaults": dict(checkpoint.defaults),
        "scheduler": dict(checkpoint.scheduler),
        "options": asdict(replace(options, quantization=None) if quantize else options),
        "quantize": quantize,
        # `this` is another GPU on another machine.
        "targets": [gpu.target for gpu in named_targets(options)],
        "verify": asdict(verify) if verify else None,
        "tools": tool_versions(()),
        "tensorrt": library_version(options.engine),
        "recipe": RECIPE,
    }
    text = json.dumps(asked, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()


def rows_per_image(checkpoint: Checkpoint) -> int:
    """Rows of the U-Net for an image where the model is run as its card recommends."""
    embedding = checkpoint.component("unet").config.get("time_cond_proj_dim")
    return 2 if is_guided(float(checkpoint.defaults["guidance"]), embedding) else 1


def _onnx_options(options: TensorrtOptions, profile: Profile, rows: int) -> OnnxOptions:
    """How the ONNX files are exported: what may not vary is fixed in the graph."""
    height, width = profile.height, profile.width
    sized = height.fixed and width.fixed
    return OnnxOptions(
        precision=_PRECISIONS[options.precision],
        attention=options.attention,
        height=height.maximum if sized else None,
        width=width.maximum if sized else None,
        # Rows of a guided model vary: one where guidance is off.
        batch=1 if profile.batch.maximum * rows == 1 else None,
        with_encoder=options.with_encoder,
        schedulers=options.schedulers,
        max_steps=options.max_steps,
        quantization=options.quantization,
    )
