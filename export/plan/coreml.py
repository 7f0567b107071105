"""The plan of `kdexport coreml`."""

from __future__ import annotations

import sys
from shlex import quote

from ...core.checkpoint import Checkpoint
from ...core.coreml_options import CoremlOptions
from ...core.options import VerifyOptions
from ..coreml.prepare import prepare_coreml
from ..prepare import PreparedPipeline
from ..summary import Summary
from . import estimates
from .types import Machine, Plan, PlannedFile

_NEVER_RUN = (
    "Core ML runs on Apple's systems only: here the packages are compared by an evaluator that "
    "rounds as they do."
)


def plan_coreml(checkpoint: Checkpoint, summary: Summary, machine: Machine) -> Plan:
    """What `kdexport coreml` would do with its own defaults, at the size of the summary.

    Raises:
        KdexportError: It would fail before it writes anything.
    """
    options = CoremlOptions(sizes=((summary.height, summary.width),))
    prepared = prepare_coreml(checkpoint, options)
    counts = summary.parameters
    size = f"{summary.height}x{summary.width}"
    # Those of text have no size.
    what = {
        part.role: "float16" + ("" if part.role.startswith("text") else f", {size}")
        for part in prepared.parts
    }
    files = tuple(
        PlannedFile(component.file, 2 * counts[component.role], what[component.role])
        for component in prepared.manifest.components
    )
    weights = [4 * counts[part.role] for part in prepared.parts]
    return Plan(
        backend="coreml",
        command=f"kdexport coreml {quote(summary.model)}{_size(prepared.pipeline, summary)}",
        files=files,
        disk=prepared.bytes_needed,
        stages=(
            estimates.coreml_export(sum(weights), max(weights), len(weights)),
            estimates.comparison(summary, machine, VerifyOptions().steps, evaluated=True),
        ),
        advice=(
            f"--quantize palette6: a U-Net of {counts['unet'] * 0.76 / 1e6:,.0f} MB; --chunk: in "
            "two packages.",
            *(() if sys.platform == "darwin" else (_NEVER_RUN,)),
        ),
    )


def _size(pipeline: PreparedPipeline, summary: Summary) -> str:
    """The option of a size that is not the model's own."""
    own = (pipeline.image_size, pipeline.image_size)
    size = (summary.height, summary.width)
    return "" if size == own else f" --size {size[0]} {size[1]}"
