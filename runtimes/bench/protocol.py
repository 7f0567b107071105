"""What the process of a contestant does: reads a request, loads, draws, answers with one line.

Request and answer are JSON, on standard input and output. Only the standard library and NumPy are
used, and nothing of this package is imported: the same file serves in the environments of other
tools, see `scripts/bench_peers_parts`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Parts:
    """Seconds spent in the components of a pipeline, and how often each was called."""

    def __init__(self) -> None:
        self._calls: dict[str, list[float]] = {}

    def timed(self, role: str, function: F) -> F:
        """A function that does what `function` does, timed as a call of the component `role`."""

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self._calls.setdefault(role, []).append(time.perf_counter() - start)

        return call  # type: ignore[return-value]

    def clear(self) -> None:
        """Forgets all calls."""
        self._calls.clear()

    def to_json(self) -> dict[str, Any]:
        """Calls, and seconds of all of them together, by component."""
        return {
            role: {"calls": len(seconds), "seconds": sum(seconds)}
            for role, seconds in self._calls.items()
        }


class Worker(Protocol):
    """A tool that draws the picture of a request."""

    @property
    def parts(self) -> Parts:
        """What its components take; may stay empty."""

    def import_packages(self) -> None:
        """Imports what is needed."""

    def load(self) -> None:
        """Loads the model."""

    def draw(self) -> Any:
        """Draws once, from the text to 8-bit pixels, `(height, width, 3)`."""

    def versions(self) -> dict[str, str]:
        """Versions of what draws."""


def serve(make: Callable[[Mapping[str, Any]], Worker]) -> None:
    """Answers the request on standard input; a failure is answered with its sentence and raised.

    Args:
        make: From a request to the worker; loads nothing.
    """
    # Libraries print to the standard output; only the answer may go there.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())
    try:
        answer = _answer(make, request)
    except BaseException as error:
        _send(answers, {"error": one_sentence(error)})
        raise
    _send(answers, answer)


def pipeline_arguments(drawing: Mapping[str, Any]) -> dict[str, Any]:
    """A drawing as the pipelines of diffusers, and those like them, are told it."""
    return {
        "prompt": drawing["prompt"],
        "num_inference_steps": drawing["steps"],
        "guidance_scale": drawing["guidance"],
        "height": drawing["height"],
        "width": drawing["width"],
    }


def one_sentence(error: BaseException) -> str:
    """The first line of an error's message, with its class unless kdexport wrote it."""
    lines = str(error).strip().splitlines() or [""]
    ours = type(error).__module__.startswith("kdexport.")
    return lines[0][:300] if ours else f"{type(error).__name__}: {lines[0][:300]}".rstrip(": ")


def peak_rss() -> int:
    """The most memory that this process had resident so far, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not what getrusage says, which begins with the peak of the process that started this one.
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    # macOS counts bytes, others kilobytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _answer(
    make: Callable[[Mapping[str, Any]], Worker], request: Mapping[str, Any]
) -> dict[str, Any]:
    seconds = {"start": time.time() - request["started"]}
    if request["cores"] is not None:
        # Before anything starts a thread.
        os.sched_setaffinity(0, request["cores"])
    worker = make(request)
    with _timed(seconds, "import"):
        worker.import_packages()
    with _timed(seconds, "load"):
        worker.load()
    with _timed(seconds, "first"):
        pixels = worker.draw()
    begun = time.time() - request["started"]
    pictures: list[float] = []
    for _ in range(request["pictures"]):
        worker.parts.clear()
        start = time.perf_counter()
        pixels = worker.draw()
        pictures.append(time.perf_counter() - start)
    if request["save"] is not None:
        import numpy as np

        np.save(request["save"], pixels)
    return {
        "seconds": seconds,
        "start_to_picture": begun,
        "pictures": pictures,
        "parts": worker.parts.to_json(),
        "peak_rss": peak_rss(),
        "versions": worker.versions(),
    }


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[what] = time.perf_counter() - start


def _send(answers: TextIO, data: Mapping[str, Any]) -> None:
    answers.write(json.dumps(data) + "\n")
    answers.flush()
