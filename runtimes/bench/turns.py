"""One turn of a contestant: a process that is started, draws, and is gone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...core.errors import RunError
from .contestant import Contestant
from .options import Drawing, Effort

# Where what contestants compile is kept, so that it can be empty or not.
_CACHES = ("KDEXPORT_CACHE", "TORCHINDUCTOR_CACHE_DIR", "KDEXPORT_BENCH_CACHE")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Turn:
    """What one process took.

    Attributes:
        seconds: From the start of the process: `start` until its own code ran, `import`, `load`,
            `first` picture.
        start_to_picture: Seconds from the start of the process to its first picture.
        pictures: Seconds of each further picture, from the text to the pixels.
        parts: Of the last picture, by component, `calls` and their `seconds` together.
        peak_rss: Peak resident memory in bytes.
        versions: Of what drew.
    """

    seconds: Mapping[str, float]
    start_to_picture: float
    pictures: tuple[float, ...]
    parts: Mapping[str, Mapping[str, float]]
    peak_rss: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """Where a contestant leaves things.

    Attributes:
        folder: A folder of its own.
    """

    folder: Path

    @property
    def cache(self) -> Path:
        """What it compiled."""
        return self.folder / "cache"

    @property
    def picture(self) -> Path:
        """Its picture, a `.npy` file."""
        return self.folder / "picture.npy"

    def make(self) -> None:
        """Makes the folders, the cache empty."""
        shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir(parents=True)


def take_turn(
    contestant: Contestant, drawing: Drawing, effort: Effort, place: Place, pictures: int
) -> Turn:
    """Starts the process of a contestant and waits for its answer; no process is left behind.

    Args:
        contestant: Who draws.
        drawing: What.
        effort: Threads, cores and time that it may use.
        place: Where its caches are, and its picture goes.
        pictures: Pictures to draw after the first.

    Raises:
        RunError: It failed, died, or took too long; the message names it and says why.
    """
    request = {
        "drawing": asdict(drawing),
        "tool": dict(contestant.tool),
        "cores": effort.cores,
        "pictures": pictures,
        "save": str(place.picture),
    }
    log = place.folder / "log"
    environment = {
        **os.environ,
        **dict.fromkeys(_THREADS, str(effort.threads)),
        **dict.fromkeys(_CACHES, str(place.cache)),
        **contestant.environment,
    }
    with log.open("w", encoding="utf-8") as errors:
        started = time.time()
        output, status = _run(
            contestant.command, {**request, "started": started}, environment, errors, effort.limit
        )
    if status is None:
        raise RunError(f"'{contestant.name}' took longer than {effort.limit:g} s; allow it more.")
    answer = _read(output)
    if answer is None or "error" in answer:
        said = answer["error"] if answer else _last_line(log) or "it said nothing"
        raise RunError(f"'{contestant.name}' failed with status {status}: {said}")
    return Turn(**{**answer, "pictures": tuple(answer["pictures"])})


def _run(
    command: tuple[str, ...],
    request: Mapping[str, Any],
    environment: Mapping[str, str],
    errors: Any,
    limit: float,
) -> tuple[str, int | None]:
    """Standard output and status of a program, None where it was stopped."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        env=environment,
        # A group of its own, for torch's compiler starts more processes.
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(json.dumps(request) + "\n", timeout=limit)
    except subprocess.TimeoutExpired:
        return "", None
    finally:
        _end(process)
    return output, process.returncode


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()


def _read(output: str) -> dict[str, Any] | None:
    lines = output.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _last_line(log: Path) -> str | None:
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else None
