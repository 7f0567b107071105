"""The plan of `kdexport onnx`."""

from __future__ import annotations

from shlex import quote

from ...core.checkpoint import Checkpoint
from ...core.options import OnnxOptions, VerifyOptions
from ..prepare import prepare_export
from ..summary import Summary
from . import estimates
from .types import Machine, Plan, PlannedFile


def plan_onnx(checkpoint: Checkpoint, summary: Summary, machine: Machine) -> Plan:
    """What `kdexport onnx` would do with its own defaults.

    Raises:
        KdexportError: It would fail before it writes anything.
    """
    options = OnnxOptions()
    prepared = prepare_export(checkpoint, options)
    counts = summary.parameters
    files = tuple(
        PlannedFile(
            f"{part.role}/model.onnx",
            part.dtype.itemsize * counts[part.role],
            "float32, any size",
        )
        for part in prepared.parts
    )
    written = sum(file.bytes for file in files)
    return Plan(
        backend="onnx",
        command=f"kdexport onnx {quote(summary.model)}",
        files=files,
        disk=prepared.bytes_needed,
        stages=(
            estimates.onnx_export(written, len(files)),
            estimates.comparison(summary, machine, VerifyOptions().steps, evaluated=False),
        ),
        advice=(
            f"--precision fp16 or mixed: {written / 2e9:.2f} GB instead of {written / 1e9:.2f}.",
            "Runs in ONNX Runtime, in OpenVINO and in optimum's pipelines.",
        ),
    )
