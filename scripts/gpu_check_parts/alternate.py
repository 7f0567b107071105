"""Runs sides in turns, each in a process of its own under one parent."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from .sides import Drawing, Side

_SCRIPTS = Path(__file__).resolve().parents[1]


class SideError(Exception):
    """A side cannot open or draw, or is out of time; the message is one sentence."""


@dataclass
class Timing:
    """What one side took.

    Attributes:
        name: The side's.
        opening_s: Seconds to load it, or None where it failed.
        warmup_s: Seconds of each picture that is not counted: the first compiles and allocates.
        picture_s: Seconds of each counted picture.
        error: Why there are no more, or None.
        image: The picture of seed 0, a `.npy` file, or None.
    """

    name: str
    opening_s: float | None = None
    warmup_s: list[float] = field(default_factory=list)
    picture_s: list[float] = field(default_factory=list)
    error: str | None = None
    image: str | None = None


@dataclass(frozen=True)
class Rounds:
    """How often is drawn: `warmups` pictures that are not counted, then `counted` ones."""

    warmups: int = 2
    counted: int = 10


def alternate(
    sides: Sequence[Side], drawing: Drawing, rounds: Rounds, deadline: float, folder: Path
) -> list[Timing]:
    """Opens all sides, then lets each draw one picture after the other, in turns.

    A side that fails drops out; with the first one, which is what is measured, all stop.

    Args:
        sides: Who draws.
        drawing: What is drawn, with a seed for each round.
        rounds: How often.
        deadline: When to stop, of `time.monotonic()`.
        folder: Where pictures and what the processes print are kept.

    Returns:
        A timing for each side.
    """
    folder.mkdir(parents=True, exist_ok=True)
    timings = [Timing(side.name) for side in sides]
    with contextlib.ExitStack() as stack:
        workers: dict[int, Worker] = {}
        for index, side in enumerate(sides):
            worker = stack.enter_context(Worker(folder / f"{index}.log", deadline))
            try:
                request = {"side": asdict(side), "drawing": asdict(drawing)}
                timings[index].opening_s = worker.ask(request)
                workers[index] = worker
            except SideError as error:
                timings[index].error = str(error)
            if 0 not in workers:
                return timings
        for number in range(rounds.warmups + rounds.counted):
            for index, worker in list(workers.items()):
                try:
                    _draw(worker, timings[index], number, rounds, folder / f"{index}.npy")
                except SideError as error:
                    timings[index].error = str(error)
                    del workers[index]
                if 0 not in workers:
                    return timings
    return timings


def _draw(worker: Worker, timing: Timing, number: int, rounds: Rounds, image: Path) -> None:
    seconds = worker.ask({"seed": number, "save": str(image) if number == 0 else None})
    if number == 0:
        timing.image = str(image)
    (timing.warmup_s if number < rounds.warmups else timing.picture_s).append(seconds)


class Worker:
    """The process of one side, see `worker.py`; ended with its children when the block ends."""

    def __init__(self, log: Path, deadline: float) -> None:
        self._log, self._deadline = log, deadline
        self._answers: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> Worker:
        path = os.pathsep.join(filter(None, [str(_SCRIPTS), os.environ.get("PYTHONPATH")]))
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env={**os.environ, "PYTHONPATH": path},
                # A group of its own, for torch's compiler starts more processes.
                start_new_session=True,
            )
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]

    def ask(self, request: dict[str, Any]) -> float:
        """Sends a request; returns the seconds that the side took.

        Raises:
            SideError: It failed, died, or did not answer before the deadline.
        """
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError):  # dead: that there is no answer says so
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        try:
            line = self._answers.get(timeout=max(0.0, self._deadline - time.monotonic()))
        except queue.Empty:
            raise SideError("out of time") from None
        if line is None:
            status = self._process.wait()
            raise SideError(f"its process ended with status {status}; see {self._log}")
        answer = json.loads(line)
        if "error" in answer:
            raise SideError(answer["error"])
        seconds: float = answer["seconds"]
        return seconds

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)
