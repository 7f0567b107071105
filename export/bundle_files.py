"""What bundles of every kind hold beside the models: sampler tables, parts of the manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..core.checkpoint import Checkpoint
from ..core.manifest import Defaults, SamplerRecord, Shapes, SourceRecord
from .prepare import PreparedPipeline
from .weights import weight_hashes

_TOOLS = ("kdexport", "torch", "diffusers", "transformers")


def tool_versions(others: Iterable[str]) -> dict[str, str]:
    """Versions of kdexport and of what every exporter uses, and of some others, by package."""
    return {name: version(name) for name in (*_TOOLS, *others)}


def source_record(checkpoint: Checkpoint) -> SourceRecord:
    """Where a pipeline came from; hashes its weight files."""
    return SourceRecord(
        model=checkpoint.model,
        revision=checkpoint.revision,
        weights_sha256=weight_hashes(checkpoint),
        pipeline_class=checkpoint.pipeline_class,
        decoder=checkpoint.decoder,
        base=checkpoint.base,
        config=checkpoint.config,
        variant=checkpoint.variant,
        adapters=tuple(source.adapter for source in checkpoint.adapters),
        random_weights=checkpoint.random_weights,
        controlnet=checkpoint.control.model if checkpoint.control else None,
        clip_skip=checkpoint.clip_skip,
        licence=checkpoint.licence,
        licence_link=checkpoint.licence_link,
    )


def sampler_records(pipeline: PreparedPipeline) -> tuple[SamplerRecord, ...]:
    """Where `write_samplers` writes the tables of the compiled samplers."""
    return tuple(
        SamplerRecord(
            name=sampler.name,
            scheduler=sampler.scheduler,
            file=f"samplers/{sampler.name}.json",
            steps=tuple(sorted(sampler.tables)),
            image=f"samplers/{sampler.name}.image.json"
            if sampler.name in pipeline.image_samplers
            else None,
        )
        for sampler in pipeline.samplers
    )


def write_samplers(pipeline: PreparedPipeline, bundle: Path) -> tuple[SamplerRecord, ...]:
    """Writes the tables of the compiled samplers below `bundle`, and says where they lie."""
    (bundle / "samplers").mkdir()
    records = sampler_records(pipeline)
    for sampler, record in zip(pipeline.samplers, records, strict=True):
        _write_table(bundle / record.file, sampler.to_json())
        if record.image:
            _write_table(bundle / record.image, pipeline.image_samplers[sampler.name].to_json())
    return records


def bundle_defaults(pipeline: PreparedPipeline, sampler: SamplerRecord, shapes: Shapes) -> Defaults:
    """What a run of the bundle uses where the user says nothing.

    Args:
        pipeline: The pipeline.
        sampler: Its own scheduler's.
        shapes: The sizes that the bundle takes.
    """
    card = pipeline.checkpoint.defaults
    height, width = shapes.sizes[0] if shapes.sizes else (shapes.height, shapes.width)
    return Defaults(
        steps=min(card["steps"], sampler.steps[-1]),
        guidance=float(card["guidance"]),
        height=height or pipeline.image_size,
        width=width or pipeline.image_size,
        negative_prompt=card["negative_prompt"],
        scheduler=sampler.name,
    )


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Writes JSON that people may read."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_table(path: Path, data: dict[str, Any]) -> None:
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
