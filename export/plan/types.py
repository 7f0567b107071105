"""A plan of an export: files, what making them takes, and what stands in the way."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PlannedFile:
    """A file or package that would be written.

    Attributes:
        path: Where in the bundle.
        bytes: Its estimated size.
        what: What it holds, in words.
    """

    path: str
    bytes: int
    what: str


@dataclass(frozen=True)
class Stage:
    """A part of the work, as it is estimated for this machine.

    Attributes:
        name: `export`, `engines` or `comparison`.
        seconds: How long it takes.
        peak_rss: The most memory that it has resident, in bytes.
    """

    name: str
    seconds: float
    peak_rss: int


@dataclass(frozen=True)
class Plan:
    """What one command would do.

    Attributes:
        backend: `onnx`, `coreml` or `tensorrt`.
        command: The command, without the output.
        files: What it would write, apart from tables and texts of a few hundred kilobytes each.
        disk: Bytes that it takes on the disk while it works, at most.
        stages: What it does, one after the other.
        advice: What else would be possible, and what nothing here can check.
        obstacles: Why it would fail here; each a sentence that says what to do about it.
        doubts: Why it may fail here, as far as estimates tell.
    """

    backend: str
    command: str
    files: tuple[PlannedFile, ...] = ()
    disk: int = 0
    stages: tuple[Stage, ...] = ()
    advice: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of the finished bundle."""
        return sum(file.bytes for file in self.files)

    @property
    def seconds(self) -> float:
        """How long the command takes."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def peak_rss(self) -> int:
        """The most memory that it takes, in bytes."""
        return max((stage.peak_rss for stage in self.stages), default=0)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        totals = {"bytes": self.bytes, "seconds": self.seconds, "peak_rss": self.peak_rss}
        return {**asdict(self), **totals}


@dataclass(frozen=True)
class Machine:
    """What of this machine a plan depends on.

    Attributes:
        rate: Multiply-accumulates per second of torch's product of large float32 matrices.
        free_memory: Bytes that programs may still take, or None where the system does not say.
        free_disk: Bytes free on the disk of the working folder.
    """

    rate: float
    free_memory: int | None
    free_disk: int
