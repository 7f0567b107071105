"""What is drawn, and how often."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ...core.errors import OptionError


@dataclass(frozen=True)
class Drawing:
    """The picture that every contestant draws.

    Attributes:
        prompt: What to draw.
        steps: Denoising steps.
        guidance: Guidance scale; at most 1 means none.
        height: In pixels.
        width: In pixels.
        seed: Of the noise, as in diffusers.
    """

    prompt: str
    steps: int
    guidance: float
    height: int
    width: int
    seed: int = 0

    @property
    def title(self) -> str:
        """The picture in words."""
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        return f"{self.height}x{self.width}, {steps}, guidance {self.guidance:g}"


@dataclass(frozen=True)
class Effort:
    """How much is measured, and with how much of the machine.

    Attributes:
        rounds: Turns of each contestant; in each it starts, draws a first picture, then `pictures`
            more.
        cold: Turns of each before them that begin with empty caches and end with the first picture.
        pictures: Pictures of a turn that are timed.
        threads: CPU threads of every contestant.
        cores: The CPUs that contestants are bound to, or None to leave that to the system.
        limit: Seconds that a turn may take.
    """

    rounds: int = 3
    cold: int = 1
    pictures: int = 1
    threads: int = 1
    cores: tuple[int, ...] | None = None
    limit: float = 1800.0

    def __post_init__(self) -> None:
        for name, least in (("rounds", 1), ("cold", 0), ("pictures", 1), ("threads", 1)):
            if getattr(self, name) < least:
                raise OptionError(
                    f"The number of '{name}' must be at least {least}, not {getattr(self, name)}."
                )
        if not self.limit > 0:
            raise OptionError(f"A turn needs more than {self.limit:g} seconds.")
        if self.cores is not None:
            _require_cores(self.cores)


def usable_cores() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _require_cores(cores: tuple[int, ...]) -> None:
    if not hasattr(os, "sched_getaffinity"):
        raise OptionError("Processes can be bound to CPUs on Linux only; leave the cores out.")
    usable = os.sched_getaffinity(0)
    missing = sorted(set(cores) - usable)
    if missing or not cores:
        raise OptionError(
            f"There is no CPU {missing[0] if missing else 'named'} to bind to; choose among "
            f"{', '.join(str(each) for each in sorted(usable))}."
        )
