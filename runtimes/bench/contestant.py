"""Who draws: bundles on the engines of this package, and diffusers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.checkpoint import Checkpoint
from ...core.errors import OptionError, choices
from ...core.manifest import load_manifest
from ...core.records import encode
from ...core.weight_files import find_weight_files
from ..registry import Engine

# The runtimes whose CPU threads can be chosen.
_THREADED = ("onnxruntime", "openvino", "mil")


@dataclass(frozen=True)
class Contestant:
    """One way to draw, in a process of its own.

    Attributes:
        name: What tables call it.
        command: The program and its arguments; it serves `protocol.serve`.
        tool: What it is told beside what to draw, JSON values.
        bytes: Size of its model on disk, or None where that is not known.
        environment: Variables that are set for it.
        same_noise: Whether it starts from the same noise as the others, so that pictures compare.
    """

    name: str
    command: tuple[str, ...]
    tool: Mapping[str, Any]
    bytes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    same_noise: bool = True


@dataclass(frozen=True)
class Variant:
    """How diffusers draws.

    Attributes:
        dtype: torch's name of the dtype.
        compiled: Whether U-Net and decoder go through `torch.compile`.
        frozen: Whether the compiler takes the weights for constants, which it lays out anew.
    """

    dtype: str
    compiled: bool = False
    frozen: bool = False


VARIANTS: dict[str, Variant] = {
    "diffusers": Variant("float32"),
    "diffusers-bf16": Variant("bfloat16"),
    "diffusers-compile": Variant("float32", compiled=True),
    "diffusers-compile-bf16": Variant("bfloat16", compiled=True),
    "diffusers-frozen": Variant("float32", compiled=True, frozen=True),
    "diffusers-frozen-bf16": Variant("bfloat16", compiled=True, frozen=True),
}


def bundle_contestant(
    bundle: Path, runtime: str | None, provider: str | None, threads: int
) -> Contestant:
    """A bundle on an engine; the number of threads counts on the CPU only.

    Raises:
        BundleError: No bundle, one for another runtime, or one that draws after pictures.
        OptionError: There is no such runtime.
        DependencyError: A package that the engine needs is not installed.
        ProviderError: The bundle's engines do not run on this machine.
    """
    manifest = load_manifest(bundle)
    if manifest.control is not None:
        raise OptionError(
            f"'{bundle}' draws after a picture; pictures are drawn from text only here."
        )
    engine = Engine.choose(manifest, bundle, runtime, provider)
    counted = engine.runtime in _THREADED and engine.provider.startswith("cpu")
    tool = {
        "bundle": str(bundle.absolute()),
        "runtime": engine.runtime,
        "provider": engine.provider,
        "threads": threads if counted else None,
    }
    return Contestant(
        name=f"{bundle.name}, {engine.runtime} {engine.provider}",
        command=_module("worker"),
        tool=tool,
        bytes=sum(record.bytes for record in manifest.files),
    )


def diffusers_contestant(checkpoint: Checkpoint, variant: str, threads: int) -> Contestant:
    """A model in diffusers on the CPU.

    Raises:
        OptionError: There is no such variant, or the model draws after pictures.
        WeightsError: An index of weight files is damaged.
    """
    if variant not in VARIANTS:
        raise OptionError(
            f"There is nothing called '{variant}' to compare with; choose {choices(VARIANTS)}. "
            "Other tools are measured by scripts/bench_peers."
        )
    if checkpoint.control is not None:
        raise OptionError(
            f"'{checkpoint.model}' draws after a picture; pictures are drawn from text only here."
        )
    chosen = VARIANTS[variant]
    files = {
        file for source in checkpoint.components.values() for file in find_weight_files(source)
    }
    return Contestant(
        name=variant,
        command=_module("torch_worker"),
        tool={"checkpoint": encode(checkpoint), **vars(chosen), "threads": threads},
        bytes=sum(file.stat().st_size for file in files),
        environment={"TORCHINDUCTOR_FREEZING": "1"} if chosen.frozen else {},
    )


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"{__package__}.{name}")
