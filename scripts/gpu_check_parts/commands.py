"""Runs kdexport's own commands: models, bundles, engines, verification."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .parts import PartError

_GATE_FAILED = 3


def kdexport(arguments: Sequence[str], deadline: float, log: Path) -> str:
    """Runs a command of kdexport in a process of its own.

    Args:
        arguments: What follows `kdexport`.
        deadline: When to stop it, of `time.monotonic()`.
        log: Where what it says on the standard error goes.

    Returns:
        Its standard output, also where a parity gate failed.

    Raises:
        PartError: It failed, with its own sentence, or is out of time.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "kdexport", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise PartError("out of time") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode not in (0, _GATE_FAILED):
        raise PartError(_complaint(log) or f"ended with status {process.returncode}; see {log}")
    return output


def make_model(name: str, folder: Path, deadline: float) -> dict[str, Any]:
    """Makes a model of the zoo with random weights, unless it is there."""
    if not folder.is_dir():
        log = folder.parent / f"{folder.name}.log"
        kdexport(["models", "make", name, str(folder)], deadline, log)
    return {"bytes": _size(folder)}


def make_bundle(
    source: Path, folder: Path, options: Sequence[str], deadline: float
) -> dict[str, Any]:
    """Exports a model, or builds engines for a bundle.

    Args:
        source: The model or the bundle.
        folder: The bundle to make.
        options: The command, and its options.
        deadline: When to stop.

    Raises:
        PartError: There is no source, or the command failed.
    """
    if not source.is_dir():
        raise PartError(f"there is no {source.name}, see its row")
    command, *others = options
    log = folder.parent / f"{folder.name}.log"
    arguments = [command, str(source), "-o", str(folder), "--overwrite", "--no-verify", *others]
    kdexport(arguments, deadline, log)
    return {"bytes": _size(folder)}


def verify(bundle: Path, options: Sequence[str], deadline: float) -> dict[str, Any]:
    """Compares a bundle with diffusers on the CPU, by component and by picture.

    Returns:
        Whether every gate was passed, the lowest PSNR of each component, and that of the pictures,
        as `as_decibels` has them.

    Raises:
        PartError: There is no such bundle, or it cannot run here.
    """
    if not bundle.is_dir():
        raise PartError(f"there is no {bundle.name}, see its row")
    log = bundle.parent / f"{bundle.name}-verify.log"
    output = kdexport(["verify", str(bundle), "--json", *options], deadline, log)
    record = json.loads(output)
    components: dict[str, list[float]] = {}
    for check in record["components"]:
        components.setdefault(check["role"], []).append(_psnr(check["difference"]))
    pictures = [_psnr(each) for run in record["runs"] for each in run["images"]]
    return {
        "passed": record["passed"],
        "components_db": {role: as_decibels(min(all_)) for role, all_ in components.items()},
        "picture_db": as_decibels(min(pictures)),
    }


def as_decibels(psnr: float) -> float | str:
    """A PSNR as JSON has it: `equal` for infinity, `not finite` for the lowest of all."""
    if psnr == math.inf:
        return "equal"
    return "not finite" if psnr == -math.inf else psnr


def _psnr(difference: dict[str, Any]) -> float:
    psnr: float | None = difference["psnr_db"]
    if psnr is not None:
        return psnr
    return math.inf if difference.get("finite", True) else -math.inf


def _complaint(log: Path) -> str | None:
    """Kdexport's own sentence, else the last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("Error: ")]
    return ours[-1].removeprefix("Error: ") if ours else (lines[-1][:300] if lines else None)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
