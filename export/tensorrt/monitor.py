"""How far a build is: TensorRT's nested phases as one share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Called with how far a build is, 0 to 1.
Progress = Callable[[float], None]


@dataclass
class _Phase:
    """A phase that has begun: what it is a part of, and its steps."""

    parent: str | None
    steps: int
    done: int = 0
    inner: float = 0.0  # how far its present step is

    @property
    def share(self) -> float:
        return min(1.0, (self.done + self.inner) / max(self.steps, 1))


class Shares:
    """Adds up phases: a phase inside another is a part of the other's present step.

    The share never falls. TensorRT for RTX compiles in one step of one phase, most of its time.
    """

    def __init__(self, progress: Progress) -> None:
        """Tells `progress` whenever the share has grown by a hundredth."""
        self._progress = progress
        self._phases: dict[str, _Phase] = {}
        self._told = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins; a name may come again after it ended."""
        self._phases[name] = _Phase(parent, steps)

    def step(self, name: str, step: int) -> None:
        """The step with number `step`, from 0 on, is done."""
        if name in self._phases:
            phase = self._phases[name]
            phase.done, phase.inner = max(phase.done, step + 1), 0.0
            self._tell(phase)

    def finish(self, name: str) -> None:
        """A phase ends."""
        phase = self._phases.pop(name, None)
        if phase is not None:
            phase.done = phase.steps
            self._tell(phase)

    def _tell(self, phase: _Phase) -> None:
        while phase.parent in self._phases:
            outer = self._phases[phase.parent]
            outer.inner = max(outer.inner, phase.share)
            phase = outer
        share = phase.share
        # Phases beside the first, which is the whole, say nothing about the whole.
        if phase is next(iter(self._phases.values()), phase) and share >= self._told + 0.01:
            self._told = share
            self._progress(share)


def make_monitor(library: Any, shares: Shares) -> Any:
    """A progress monitor of TensorRT that tells `shares`; None for versions without monitors.

    Args:
        library: `tensorrt` or `tensorrt_rtx`.
        shares: What it tells.
    """
    if not hasattr(library, "IProgressMonitor"):
        return None

    class Monitor(library.IProgressMonitor):  # type: ignore[misc]
        """Passes on what TensorRT reports."""

        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """A phase begins."""
            shares.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """A step is done; True goes on."""
            shares.step(phase_name, step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            """A phase ends."""
            shares.finish(phase_name)

    return Monitor()
