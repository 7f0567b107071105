"""The peers by name: environment, program, and what each is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdexport.runtimes.bench.contestant import Contestant

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Peer:
    """Another tool.

    Attributes:
        environment: Folder of its virtual environment, at the root of the repository.
        program: Its program, beside this file.
        exported: Whether it draws from an export of its own, instead of the model itself.
        tool: What its program is told beside the folder and the threads.
        same_noise: Whether it starts from the noise that diffusers draws.
    """

    environment: str
    program: str
    exported: bool
    tool: Mapping[str, Any] = field(default_factory=dict)
    same_noise: bool = True


def _intel(precision: str, static: bool) -> Peer:
    tool = {"precision": precision, "static": static}
    return Peer(".venv-optimum-intel", "peer_optimum_intel.py", True, tool)


def _sdcpp(weights: str) -> Peer:
    tool = {"weights": weights, "flash": True}
    return Peer(".venv-sdcpp", "peer_sdcpp.py", False, tool, same_noise=False)


PEERS: dict[str, Peer] = {
    "optimum-onnx": Peer(".venv-optimum", "peer_optimum_onnx.py", True),
    # Static is the stronger one; dynamic is what its users get unless they ask.
    "optimum-intel": _intel("f32", True),
    "optimum-intel-bf16": _intel("bf16", True),
    "optimum-intel-dynamic": _intel("f32", False),
    "stable-diffusion.cpp": _sdcpp("default"),
    "stable-diffusion.cpp-f16": _sdcpp("f16"),
    "stable-diffusion.cpp-q8_0": _sdcpp("q8_0"),
}


class PeerError(Exception):
    """A peer has no environment, or cannot convert the model; the message is one sentence."""


@dataclass(frozen=True)
class Export:
    """What a peer's own conversion of the model took.

    Attributes:
        peer: Its program.
        seconds: From the start of the process to its end.
        peak_rss: Peak resident memory in bytes.
        bytes: Size of what was written.
    """

    peer: str
    seconds: float
    peak_rss: int
    bytes: int


def python_of(peer: Peer) -> Path:
    """The Python of a peer's environment; raises `PeerError` where it was not made."""
    python = ROOT / peer.environment / "bin" / "python"
    if not python.is_file():
        raise PeerError(f"there is no {peer.environment}; scripts/bench_peers makes it")
    return python


def export(peer: Peer, model: Path, folder: Path) -> Export:
    """Lets a peer convert the model, unless it did before.

    Args:
        peer: Who.
        model: A diffusers folder.
        folder: Where its export goes, whole or not at all; the record lies beside it.

    Raises:
        PeerError: It failed; its last line.
    """
    record = folder.with_name(f"{folder.name}.json")
    if folder.is_dir() and record.is_file():
        return Export(**json.loads(record.read_text(encoding="utf-8")))
    staging = folder.with_name(f"{folder.name}.part")
    for each in (folder, staging):
        shutil.rmtree(each, ignore_errors=True)
    staging.parent.mkdir(parents=True, exist_ok=True)
    program = Path(__file__).parent / peer.program
    command = [python_of(peer), program, "export", model, staging]
    start = time.perf_counter()
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        shutil.rmtree(staging, ignore_errors=True)
        raise PeerError(
            f"its export failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:300]}"
        )
    peak = json.loads(done.stdout.strip().splitlines()[-1])["peak_rss"]
    result = Export(peer.program, seconds, peak, size_of(staging))
    staging.rename(folder)
    record.write_text(json.dumps(vars(result)) + "\n", encoding="utf-8")
    return result


def contestant(name: str, folder: Path, threads: int) -> Contestant:
    """A peer that draws from a folder; raises `PeerError` where it has no environment."""
    peer = PEERS[name]
    program = Path(__file__).parent / peer.program
    tool = {"folder": str(folder), "threads": threads, **peer.tool}
    command = (str(python_of(peer)), str(program))
    return Contestant(name, command, tool, size_of(folder), same_noise=peer.same_noise)


def size_of(folder: Path) -> int:
    """Size of the files of a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
