"""The parts of a check: each leaves a record, so that an interrupted check goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class PartError(Exception):
    """A part cannot be done; the message is one sentence."""


@dataclass(frozen=True)
class Part:
    """Something to do once.

    Attributes:
        case: The model that it belongs to.
        what: What the table calls it.
        settings: What its result depends on; with others it is done again.
        run: Does it; is told when to stop, of `time.monotonic()`, and returns JSON values.
    """

    case: str
    what: str
    settings: Mapping[str, Any]
    run: Callable[[float], dict[str, Any]]

    @property
    def file(self) -> str:
        """Name of its record."""
        text = f"{self.case} {self.what}".lower()
        return "-".join("".join(c if c.isalnum() else " " for c in text).split()) + ".json"


@dataclass(frozen=True)
class Record:
    """What became of a part.

    Attributes:
        case: See `Part`.
        what: See `Part`.
        settings: See `Part`.
        seconds: How long it took.
        result: What it returned; empty where it failed.
        error: Why it failed, or None.
    """

    case: str
    what: str
    settings: Mapping[str, Any]
    seconds: float = 0.0
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def carry_out(
    parts: Sequence[Part],
    folder: Path,
    limit: float,
    budget: float,
    report: Callable[[str], None],
) -> list[Record]:
    """Does what is not done yet, in order.

    Args:
        parts: What to do.
        folder: Where the records are.
        limit: Seconds that a part may take.
        budget: Seconds for all of them; what it does not suffice for is left for another time.
        report: Told of each part when it is done.

    Returns:
        A record for each part; one that was left has no result and no error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + budget
    records = []
    for part in parts:
        file = folder / part.file
        record = _done(part, file)
        if record is None and time.monotonic() < end:
            record = _run(part, min(time.monotonic() + limit, end))
            _write(record, file)
            report(f"{part.case}, {part.what}: {record.error or f'{record.seconds:.0f} s'}")
        records.append(record or Record(part.case, part.what, part.settings))
    return records


def _done(part: Part, file: Path) -> Record | None:
    """The record of an earlier run with the same settings that did not fail."""
    if not file.is_file():
        return None
    record = Record(**json.loads(file.read_text(encoding="utf-8")))
    same = json.dumps(record.settings, sort_keys=True) == json.dumps(part.settings, sort_keys=True)
    return record if same and record.error is None else None


def _run(part: Part, deadline: float) -> Record:
    start = time.monotonic()
    result: dict[str, Any] = {}
    error = None
    try:
        result = part.run(deadline)
    except PartError as problem:
        error = str(problem)
    seconds = time.monotonic() - start
    return Record(part.case, part.what, part.settings, seconds, result, error)


def _write(record: Record, file: Path) -> None:
    # Whole or not at all: a killed run must not leave half a record.
    staging = file.with_suffix(".part")
    staging.write_text(json.dumps(vars(record), indent=2) + "\n", encoding="utf-8")
    staging.replace(file)
