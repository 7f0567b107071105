"""Contestants in turns, so that whatever else the machine does falls on all of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ...core.errors import OptionError, RunError
from ...core.folder import user_cache
from .contestant import Contestant
from .options import Drawing, Effort
from .turns import Place, Turn, take_turn

Report = Callable[[str, float], None]


@dataclass
class Record:
    """What became of a contestant.

    Attributes:
        contestant: Who.
        cold: Its turns that began with empty caches.
        turns: Its turns after those, one for each round.
        cache_bytes: What it keeps on disk from one start to the next.
        picture: Its picture, 8-bit RGB, `(height, width, 3)`, or None before there is one.
        error: Why there are no more turns, or None.
    """

    contestant: Contestant
    cold: list[Turn] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    cache_bytes: int = 0
    picture: NDArray[np.uint8] | None = None
    error: str | None = None

    @property
    def pictures(self) -> list[float]:
        """Seconds of a picture, the median of each round's."""
        return [median(turn.pictures) for turn in self.turns]


def alternate(
    contestants: Sequence[Contestant],
    drawing: Drawing,
    effort: Effort,
    report: Report,
    tolerant: bool = False,
) -> list[Record]:
    """Lets everybody take a turn in every round; one process is in memory at a time.

    Args:
        contestants: Who draws; names differ.
        drawing: What.
        effort: How often.
        report: Told of the round, and how many of the contestants had their turn, 0 to 1.
        tolerant: Whether a contestant that fails drops out with its error, instead of ending all.

    Returns:
        A record for each contestant.

    Raises:
        OptionError: Two contestants have one name, or there are none.
        RunError: One failed, and `tolerant` is off.
    """
    names = [each.name for each in contestants]
    if not names or len(set(names)) < len(names):
        raise OptionError("There must be somebody to draw, and nobody twice; leave out the others.")
    records = [Record(each) for each in contestants]
    kinds = [(f"cold starts {n + 1} of {effort.cold}", True) for n in range(effort.cold)]
    kinds += [(f"round {n + 1} of {effort.rounds}", False) for n in range(effort.rounds)]
    with _scratch() as scratch:
        places = [Place(scratch / str(index)) for index in range(len(records))]
        for place in places:
            place.make()
        for kind, cold in kinds:
            for index, (record, place) in enumerate(zip(records, places, strict=True)):
                report(kind, index / len(records))
                if record.error is None:
                    _take(record, drawing, effort, place, cold, tolerant)
    return records


def _take(
    record: Record, drawing: Drawing, effort: Effort, place: Place, cold: bool, tolerant: bool
) -> None:
    if cold:
        place.make()
    try:
        turn = take_turn(record.contestant, drawing, effort, place, 0 if cold else effort.pictures)
    except RunError as error:
        if not tolerant:
            raise
        record.error = str(error)
        return
    (record.cold if cold else record.turns).append(turn)
    record.cache_bytes = sum(f.stat().st_size for f in place.cache.rglob("*") if f.is_file())
    if record.picture is None and place.picture.is_file():
        record.picture = np.load(place.picture)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder on the volume of the cache; a system's own may be in memory, which is measured."""
    parent = user_cache()
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
