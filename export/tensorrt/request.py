"""What it takes to build an engine, and what the engine is called.

Light to import, as all that the process of a build imports: what runs before the build moves the
addresses that it depends on (see `process.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.gpus import target_name

if TYPE_CHECKING:
    from ...core.profiles import Ranges
    from ...core.tensorrt_options import TensorrtOptions
    from .graph import OnnxGraph

_SUFFIXES = {"rtx": "rtx.engine", "native": "plan"}


@dataclass(frozen=True)
class BuildSettings:
    """How an engine is built, beside what the ONNX file says; all of it is for native ones.

    Attributes:
        compatibility: Other GPUs that it runs on, see `TensorrtOptions`.
        level: Optimization level, or None for TensorRT's own.
        timing_cache: File with the timings of earlier builds, or None. It saves time, and is no
            part of what the engine is.
    """

    compatibility: str = "none"
    level: int | None = None
    timing_cache: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """What the manifest records and the engine's key depends on."""
        return {"compatibility": self.compatibility, "level": self.level}


@dataclass(frozen=True)
class EngineRequest:
    """An engine that is wanted.

    Attributes:
        role: Its component's.
        onnx: The ONNX file.
        kind: `rtx` or `native`.
        capability: Compute capability of the GPU that it is for.
        ranges: Smallest, best and largest shape of each input.
        settings: How it is built.
        device: Name of the GPU that a native engine is tuned on, for GPUs of one capability differ
            in what is fastest; None of RTX engines.
    """

    role: str
    onnx: Path
    kind: str
    capability: tuple[int, int]
    ranges: Mapping[str, Ranges]
    settings: BuildSettings = field(default_factory=BuildSettings)
    device: str | None = None

    @cached_property
    def graph(self) -> OnnxGraph:
        """The ONNX file without its weights; raises as `read_graph`."""
        from .graph import read_graph

        return read_graph(self.onnx)

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the ONNX file and of those with its weights, by name; gigabytes are read."""
        from ...core.folder import sha256_of

        folder = self.onnx.parent
        return {each.relative_to(folder).as_posix(): sha256_of(each) for each in self.graph.files}

    @property
    def target(self) -> str:
        """The compute capability as engines name it, such as `sm_89`."""
        return target_name(self.capability)


def settings_of(options: TensorrtOptions) -> BuildSettings:
    """The settings that the options of an export ask for."""
    return BuildSettings(options.compatibility, options.level, options.timing_cache)


def file_name(role: str, kind: str, capability: tuple[int, int]) -> str:
    """Name of an engine in its bundle: `unet.sm89.rtx.engine`, or `unet.sm89.plan`."""
    return f"{role}.{target_name(capability).replace('_', '')}.{_SUFFIXES[kind]}"


def to_message(request: EngineRequest, output: Path) -> dict[str, Any]:
    """A request and the file to write as JSON values, paths in full."""
    cache = request.settings.timing_cache
    return {
        "role": request.role,
        "onnx": str(request.onnx.absolute()),
        "kind": request.kind,
        "capability": request.capability,
        "ranges": request.ranges,
        "compatibility": request.settings.compatibility,
        "level": request.settings.level,
        "timing_cache": None if cache is None else str(cache.absolute()),
        "output": str(output.absolute()),
    }


def from_message(message: Mapping[str, Any]) -> tuple[EngineRequest, Path]:
    """The request and the file to write, of what `to_message` made."""
    cache, (major, minor) = message["timing_cache"], message["capability"]
    request = EngineRequest(
        role=message["role"],
        onnx=Path(message["onnx"]),
        kind=message["kind"],
        capability=(major, minor),
        ranges={
            name: (tuple(least), tuple(best), tuple(most))
            for name, (least, best, most) in message["ranges"].items()
        },
        settings=BuildSettings(
            message["compatibility"], message["level"], None if cache is None else Path(cache)
        ),
    )
    return request, Path(message["output"])
