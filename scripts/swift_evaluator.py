"""Evaluates Core ML packages for the Swift tests, through two named pipes.

    python scripts/swift_evaluator.py --requests FIFO --replies FIFO --root DIR

Linux has no Core ML; this stands in for it, with kdexport's evaluator of MIL programs. It makes the
pipes where they are missing and serves one client after the other until it is terminated.

A message is a line of JSON and, after it, 32-bit floats in the order of the machine: those of the
tensors in `tensors`, each `{"name": …, "shape": […]}`, one after the other.

| request | reply |
|---|---|
| `{"do": "open", "model": PATH}` | `{"inputs": [NAME…], "outputs": [NAME…]}` |
| `{"do": "run", "model": PATH, "tensors": […]}` and floats | `{"tensors": […]}` and floats |
| `{"do": "close", "model": PATH}` | `{}` |

`PATH` is relative to `DIR`. What goes wrong is answered with `{"error": SENTENCE}`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from kdexport.core.errors import KdexportError
from kdexport.runtimes.mil.runner import MilRunner
from numpy.typing import NDArray

Floats = dict[str, NDArray[np.float32]]
Message = Mapping[str, Any]


class Evaluator:
    """The packages that a client opened, by their paths."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._runners: dict[str, MilRunner] = {}

    def answer(self, request: Message, tensors: Floats) -> tuple[dict[str, Any], Floats]:
        """Does what a request says.

        Returns:
            The reply without its tensors, and these.
        """
        model = str(request["model"])
        if request["do"] == "open":
            runner = self._runners.setdefault(model, MilRunner(self._root / model))
            runner.open()
            signature = runner.describe()
            ports = {"inputs": signature.inputs, "outputs": signature.outputs}
            return {name: [spec.name for spec in specs] for name, specs in ports.items()}, {}
        if request["do"] == "close":
            if (closed := self._runners.pop(model, None)) is not None:
                closed.close()
            return {}, {}
        runner = self._runners[model]
        dtypes = {spec.name: spec.dtype for spec in runner.describe().inputs}
        feed = {name: array.astype(dtypes[name]) for name, array in tensors.items()}
        return {}, {name: array.astype(np.float32) for name, array in runner.run(feed).items()}

    def close(self) -> None:
        """Frees what the client left open."""
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()


def read_message(stream: BinaryIO) -> tuple[Message, Floats] | None:
    """The next message and its tensors, or None where the client is gone."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    message = json.loads(line)
    tensors = {}
    for each in message.get("tensors", []):
        size = 4 * math.prod(each["shape"])
        data = stream.read(size)
        if len(data) < size:
            return None
        tensors[each["name"]] = np.frombuffer(data, np.float32).reshape(each["shape"])
    return message, tensors


def write_message(stream: BinaryIO, message: Message, tensors: Floats) -> None:
    """Writes a message and its tensors."""
    named = [{"name": name, "shape": list(array.shape)} for name, array in tensors.items()]
    stream.write(json.dumps({**message, "tensors": named}).encode() + b"\n")
    for array in tensors.values():
        stream.write(np.ascontiguousarray(array).tobytes())
    stream.flush()


def serve(requests: BinaryIO, replies: BinaryIO, root: Path) -> None:
    """Answers one client until it closes its end; `BrokenPipeError` where it does not read on."""
    evaluator = Evaluator(root)
    try:
        while (received := read_message(requests)) is not None:
            try:
                reply, tensors = evaluator.answer(*received)
            except (KdexportError, KeyError, ValueError) as error:
                reply, tensors = {"error": f"{type(error).__name__}: {error}"}, {}
            write_message(replies, reply, tensors)
    finally:
        evaluator.close()


def main() -> None:
    """Makes the pipes and serves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=Path, required=True, help="pipe that the client writes")
    parser.add_argument("--replies", type=Path, required=True, help="pipe that the client reads")
    parser.add_argument("--root", type=Path, required=True, help="folder of the models")
    options = parser.parse_args()
    for pipe in (options.requests, options.replies):
        if not pipe.exists():
            os.mkfifo(pipe)
    while True:
        # Opening waits for the client, which opens them in the same order. Closing writes what is
        # left in the buffer, which fails as well where the client is gone.
        with (
            contextlib.suppress(BrokenPipeError),
            options.requests.open("rb") as requests,
            options.replies.open("wb") as replies,
        ):
            serve(requests, replies, options.root)


if __name__ == "__main__":
    main()
