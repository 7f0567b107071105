"""The plan of `kdexport tensorrt`."""

from __future__ import annotations

from shlex import quote

from ...core.checkpoint import Checkpoint
from ...core.options import VerifyOptions
from ...core.tensorrt_options import TensorrtOptions
from ..summary import Summary
from ..tensorrt.memory import memory_needed
from ..tensorrt.prepare import prepare_tensorrt
from ..tensorrt.request import file_name
from . import estimates
from .types import Machine, Plan, PlannedFile

# An engine beside the ONNX file it was built from: 980 MB to 965, 1.59 GB to 1.57.
_ENGINE = 1.02


def plan_tensorrt(checkpoint: Checkpoint, summary: Summary, machine: Machine) -> Plan:
    """What `kdexport tensorrt` would do with its own defaults, at the size of the summary.

    Raises:
        KdexportError: It would fail before it writes anything.
    """
    profile = (f"height={summary.height}", f"width={summary.width}")
    sides = "".join(f" --profile {each}" for each in profile)
    prepared = prepare_tensorrt(checkpoint, TensorrtOptions(profile=profile))
    counts, parts = summary.parameters, prepared.onnx.parts
    sizes = {part.role: part.dtype.itemsize * counts[part.role] for part in parts}
    models = [
        PlannedFile(f"{part.role}/model.onnx", sizes[part.role], str(part.dtype).split(".")[-1])
        for part in parts
    ]
    built = [
        PlannedFile(
            file_name(part.role, prepared.options.engine, gpu.capability),
            int(_ENGINE * sizes[part.role]),
            f"engine for {gpu}",
        )
        for part in parts
        for gpu in prepared.gpus
    ]
    memory = max(memory_needed(size) for size in sizes.values())
    return Plan(
        backend="tensorrt",
        command=f"kdexport tensorrt {quote(summary.model)} --gpu {prepared.options.gpus[0]}{sides}",
        files=(*models, *built),
        disk=prepared.bytes_needed,
        stages=(
            estimates.onnx_export(sum(sizes.values()), len(models)),
            estimates.comparison(summary, machine, VerifyOptions().steps, evaluated=False),
            estimates.engines(sizes.values(), len(prepared.gpus), memory),
        ),
        advice=(
            "Engines are built without a GPU; the ONNX files are compared, engines where there is "
            "one of these GPUs.",
        ),
    )
