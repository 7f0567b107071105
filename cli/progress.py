"""How far a command is: bars in a terminal, a line for each stage elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Told what is being done, and how far that is, 0 to 1.
Report = Callable[[str, float], None]

# Elsewhere than in a terminal a stage that takes longer says every so many seconds how far it is.
_PATIENCE_S = 30.0


@contextmanager
def progress(quiet: bool) -> Iterator[Report]:
    """Shows the stages of a command on standard error.

    Args:
        quiet: Show nothing where that is not a terminal: the user wants JSON.

    Yields:
        The function that stages report to.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        with _bars(console) as report:
            yield report
    elif quiet:
        yield lambda what, share: None
    else:
        lines = _Lines(console)
        yield lines.report
        lines.finish()


@contextmanager
def _bars(console: Console) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description:<28}"),
        # Leaves room for the times in 80 columns.
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, share: float) -> None:
            if what not in tasks:
                _complete(bars)
                tasks[what] = bars.add_task(what, total=1.0)
            bars.update(tasks[what], completed=share)

        yield report
        _complete(bars)


def _complete(bars: Progress) -> None:
    """What came before has ended, whatever its share was."""
    for task in bars.tasks:
        bars.update(task.id, completed=1.0)
        bars.stop_task(task.id)


class _Lines:
    """A line for each stage when it ends, and for one that takes long also on the way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._what: str | None = None
        self._begun = self._said = 0.0

    def report(self, what: str, share: float) -> None:
        """Takes note of how far a stage is."""
        now = time.monotonic()
        if what != self._what:
            self.finish()
            self._what, self._begun, self._said = what, now, now
        elif now - self._said >= _PATIENCE_S:
            self._say(f"{what}: {share:.0%} after {now - self._begun:.0f} s")
            self._said = now

    def finish(self) -> None:
        """Says that the stage at hand has ended."""
        if self._what is not None:
            self._say(f"{self._what}: {time.monotonic() - self._begun:.1f} s")
            self._what = None

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)
