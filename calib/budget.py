"""The smallest recipe that draws well enough: predictions choose, drawing decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..core.errors import OptionError
from ..core.formats import FORMATS
from .search import Choice, choose_formats, smallest_and_largest
from .simulate import Simulated, Simulation
from .table import SensitivityTable

Report = Callable[[str, float], None]

# Halvings of the interval of sizes; each draws the pictures once.
_BISECTIONS = 6


def within_size(
    table: SensitivityTable,
    simulation: Simulation,
    candidates: Sequence[str],
    target_bytes: int,
    float_bytes: int,
) -> tuple[Choice, Simulated]:
    """The best choice of a size, and what it draws.

    Raises:
        OptionError: Even the smallest choice is larger, or nothing needs to be compressed; the
            message says how large they are.
    """
    _, largest = smallest_and_largest(table, candidates, float_bytes)
    if target_bytes >= largest:
        raise OptionError(
            f"The weights take {largest / 1e6:.1f} MB as they are, no more than the "
            f"{target_bytes / 1e6:.1f} MB asked for; ask for less, or leave them as they are."
        )
    choice = choose_formats(table, candidates, target_bytes, float_bytes)
    return choice, _drawn(simulation, choice)


def reaching_psnr(
    table: SensitivityTable,
    simulation: Simulation,
    candidates: Sequence[str],
    wanted_db: float,
    float_bytes: int,
    report: Report,
) -> tuple[Choice, Simulated]:
    """A choice of nearly the smallest size whose pictures reach a PSNR when they are drawn.

    Args:
        table: Of the U-Net.
        simulation: Draws with the choices.
        candidates: Formats to choose among.
        wanted_db: PSNR of the picture in dB.
        float_bytes: Of a weight that stays as it is.
        report: Told what is being done and how far it is.

    Raises:
        OptionError: Even the best choice of these formats does not reach it; the message says what
            it reaches.
    """
    low, largest = smallest_and_largest(table, candidates, float_bytes)
    # One weight at least has to be compressed: to leave all as they are is no recipe.
    high = largest - 1
    report("recipe", 0.0)
    found = choose_formats(table, candidates, high, float_bytes)
    drawn = _drawn(simulation, found)
    if drawn.image_psnr_db < wanted_db:
        raise OptionError(
            f"A PSNR of {wanted_db:g} dB cannot be reached with these formats "
            f"({', '.join(candidates)}), only {drawn.image_psnr_db:.1f} dB; ask for that, or "
            "leave the weights as they are."
        )
    for index in range(_BISECTIONS):
        report("recipe", index / _BISECTIONS)
        middle = (low + high) // 2
        choice = choose_formats(table, candidates, middle, float_bytes)
        seen = _drawn(simulation, choice)
        if seen.image_psnr_db >= wanted_db:
            found, drawn, high = choice, seen, min(middle, choice.bytes)
        else:
            low = middle
    report("recipe", 1.0)
    return found, drawn


def _drawn(simulation: Simulation, choice: Choice) -> Simulated:
    return simulation.measure({name: FORMATS[form] for name, form in choice.formats.items()})
