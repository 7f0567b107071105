"""A whole pipeline to an ONNX bundle, one component at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.checkpoint import Checkpoint
from ..core.manifest import (
    SCHEMA_VERSION,
    Component,
    Manifest,
    SamplerRecord,
    TextEncoding,
    record_files,
    save_manifest,
)
from .bundle_files import (
    bundle_defaults,
    source_record,
    tool_versions,
    write_json,
    write_samplers,
)
from .controlnets import control_record
from .parts import Part
from .prepare import PreparedExport
from .skeleton import build_skeleton, fake_mode
from .text import write_tokenizer_files
from .to_onnx import MODEL_FILE, write_onnx

_TOOLS = ("onnx", "onnx_ir", "onnxscript")

# Called with what is being done, and how far it is, 0 to 1.
Report = Callable[[str, float], None]


def export_onnx(prepared: PreparedExport, bundle: Path, report: Report) -> Manifest:
    """Writes the bundle into an existing empty folder.

    Args:
        prepared: The checked export.
        bundle: The folder to write to.
        report: Told what is being done and how far it is.

    Returns:
        The manifest, which is also written.

    Raises:
        KdexportError: See `write_onnx` and `write_tokenizer_files`.
    """
    checkpoint = prepared.pipeline.checkpoint
    components = tuple(_write_part(part, prepared, bundle, report) for part in prepared.parts)
    text = tuple(
        write_tokenizer_files(checkpoint, name, bundle) for name in checkpoint.text_encoders
    )
    samplers = write_samplers(prepared.pipeline, bundle)
    _write_pipeline_files(checkpoint, components, bundle)
    report("hashing", 0.0)
    manifest = _manifest(prepared, components, text, samplers, bundle)
    save_manifest(manifest, bundle)
    return manifest


def _write_part(part: Part, prepared: PreparedExport, bundle: Path, report: Report) -> Component:
    report(part.role, 0.0)
    source = prepared.pipeline.checkpoint.component(part.component)
    wrapped = part.wrap(build_skeleton(source, part.dtype))
    plan = prepared.plans.get(part.role)
    written = write_onnx(
        wrapped,
        fake_mode(),
        prepared.pipeline.weights[part.component],
        bundle / part.role,
        opset=prepared.options.resolved_opset,
        static=part.static,
        plan=plan,
        progress=lambda done, total: report(part.role, done / max(total, 1)),
    )
    # Not the file: it may be in need of repair, or belong to a single-file checkpoint.
    write_json(bundle / part.role / "config.json", dict(source.config))
    return Component(
        role=part.role,
        file=f"{part.role}/{MODEL_FILE}",
        precision=part.precision,
        inputs=written.inputs,
        outputs=written.outputs,
        parameters=written.parameters,
        islands=part.islands,
        operators=written.operators,
        compression=plan.record(written.quantized) if plan else None,
    )


def _write_pipeline_files(
    checkpoint: Checkpoint, components: tuple[Component, ...], bundle: Path
) -> None:
    """What optimum reads beside the models: `model_index.json` and the scheduler's config."""
    (bundle / "scheduler").mkdir()
    write_json(bundle / "scheduler" / "scheduler_config.json", dict(checkpoint.scheduler))
    kept = ("scheduler", "tokenizer", "tokenizer_2")
    index: dict[str, Any] = {
        key: value
        for key, value in checkpoint.index.items()
        if key in kept or not isinstance(value, list)
    }
    # optimum names its pipelines and models so; it looks at the first entry of each part only.
    # It has no pipeline with a ControlNet: such a folder is for kdexport's own runtimes.
    index["_class_name"] = f"ORT{checkpoint.pipeline_class}"
    for component in components:
        index[component.role] = ["optimum.onnxruntime.modeling_diffusion", _ORT[component.role]]
    write_json(bundle / "model_index.json", index)


_ORT = {
    "text_encoder": "ORTTextEncoder",
    "text_encoder_2": "ORTTextEncoder",
    "controlnet": "ORTControlNet",
    "unet": "ORTUnet",
    "vae_decoder": "ORTVaeDecoder",
    "vae_encoder": "ORTVaeEncoder",
}


def _manifest(
    prepared: PreparedExport,
    components: tuple[Component, ...],
    text: tuple[TextEncoding, ...],
    samplers: tuple[SamplerRecord, ...],
    bundle: Path,
) -> Manifest:
    checkpoint = prepared.pipeline.checkpoint
    return Manifest(
        schema_version=SCHEMA_VERSION,
        backend="onnx",
        family=checkpoint.family,
        tools=tool_versions(_TOOLS),
        source=source_record(checkpoint),
        components=components,
        text=text,
        zero_negative=bool(checkpoint.index.get("force_zeros_for_empty_prompt", False)),
        latents=prepared.pipeline.latents,
        shapes=prepared.shapes,
        defaults=bundle_defaults(prepared.pipeline, samplers[0], prepared.shapes),
        samplers=samplers,
        files=record_files(bundle),
        control=control_record(checkpoint),
        guidance_embedding=checkpoint.component("unet").config.get("time_cond_proj_dim"),
    )
