"""What was measured, as rows: for a table, a plot, and JSON with every single figure."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...core.compare import compare_images
from .alternate import Record
from .options import Drawing, Effort, usable_cores
from .statistics import Spread, ratios


@dataclass(frozen=True)
class Row:
    """A contestant.

    Attributes:
        name: Its name.
        picture: Seconds of a picture once everything is loaded, over the rounds; None where it
            drew none.
        ratio: How many times as long that is as the first contestant's, round by round.
        cold: Seconds from the start of the process to the first picture, caches empty.
        start: The same with what earlier starts left in the caches.
        stages: Medians of what the latter consists of: `start`, `import`, `load`, `first`.
        calls: Calls of each component for a picture.
        seconds: Median seconds of a call of each component.
        peak_rss: Peak resident memory in bytes, of its largest process.
        bytes: Size of the model on disk, or None where that is not known.
        cache_bytes: What it keeps in caches beside that.
        psnr_db: PSNR of its picture against the first contestant's; infinite where they are equal,
            None where they do not compare.
        versions: Of what drew.
        error: Why it took no further part, or None.
    """

    name: str
    picture: Spread | None = None
    ratio: Spread | None = None
    cold: Spread | None = None
    start: Spread | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_rss: int | None = None
    bytes: int | None = None
    cache_bytes: int = 0
    psnr_db: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


def make_rows(records: Sequence[Record]) -> list[Row]:
    """A row for each contestant; the first is what the others are compared with."""
    return [_row(each, records[0]) for each in records]


def to_json(
    rows: Sequence[Row], records: Sequence[Record], drawing: Drawing, effort: Effort
) -> dict[str, Any]:
    """Everything as JSON values; a PSNR of equal pictures is `"equal"`."""
    listed = []
    for row, record in zip(rows, records, strict=True):
        data = asdict(row)
        data["psnr_db"] = "equal" if row.psnr_db == math.inf else row.psnr_db
        data["tool"] = {k: v for k, v in record.contestant.tool.items() if k != "checkpoint"}
        data["cold_turns"] = [asdict(turn) for turn in record.cold]
        data["turns"] = [asdict(turn) for turn in record.turns]
        listed.append(data)
    return {
        "kdexport": __version__,
        "machine": describe_machine(),
        "drawing": asdict(drawing),
        "effort": asdict(effort),
        "contestants": listed,
    }


def from_json(data: Mapping[str, Any]) -> list[Row]:
    """The rows that `to_json` made `data` of."""
    rows = []
    for each in data["contestants"]:
        values = {name: each[name] for name in Row.__dataclass_fields__}
        for name in ("picture", "ratio", "cold", "start"):
            values[name] = None if values[name] is None else Spread(**values[name])
        values["psnr_db"] = math.inf if values["psnr_db"] == "equal" else values["psnr_db"]
        rows.append(Row(**values))
    return rows


def describe_machine() -> dict[str, Any]:
    """The processor, how many of its CPUs can be used, and the system."""
    return {
        "processor": _processor(),
        "cpus": usable_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _row(record: Record, first: Record) -> Row:
    turns = [*record.cold, *record.turns]
    parts = [turn.parts for turn in record.turns]
    roles = parts[-1] if parts else {}
    stages = record.turns[-1].seconds if record.turns else {}
    return Row(
        name=record.contestant.name,
        picture=Spread.of(record.pictures),
        ratio=Spread.of(ratios(record.pictures, first.pictures)),
        cold=Spread.of([turn.start_to_picture for turn in record.cold]),
        start=Spread.of([turn.start_to_picture for turn in record.turns]),
        stages={name: _middle([t.seconds[name] for t in record.turns]) for name in stages},
        calls={role: int(each["calls"]) for role, each in roles.items()},
        seconds={
            role: _middle([p[role]["seconds"] / p[role]["calls"] for p in parts]) for role in roles
        },
        peak_rss=max((turn.peak_rss for turn in turns), default=None),
        bytes=record.contestant.bytes,
        cache_bytes=record.cache_bytes,
        psnr_db=_psnr(record, first),
        versions=turns[-1].versions if turns else {},
        error=record.error,
    )


def _middle(values: Sequence[float]) -> float:
    return float(np.median(values))


def _psnr(record: Record, first: Record) -> float | None:
    ours, theirs = record.picture, first.picture
    if record is first or ours is None or theirs is None or not _comparable(record, ours, theirs):
        return None
    return compare_images(ours, theirs).psnr_db


def _comparable(record: Record, ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    return record.contestant.same_noise and ours.shape == theirs.shape


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
