"""Which format each weight gets, so that the picture is as good as a size allows.

Errors of single weights add up (they are nearly independent), and so do sizes: a choice for each
weight that minimizes the sum of the one under a bound of the other. For every price of a byte the
best choice of each weight stands by itself; the price is found by bisection, and what is left of
the size is spent where it helps most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.errors import OptionError
from ..core.formats import FLOAT, format_named, stored_bytes
from .table import SensitivityTable, psnr_of

# Halvings of the interval in which the price lies.
_BISECTIONS = 200


@dataclass(frozen=True)
class Choice:
    """The formats of all weights.

    Attributes:
        formats: By name of the weight.
        bytes: What the weights of the table take.
        error: The predicted mean squared error of the picture, in 8-bit steps.
        least: An error that no choice of this size or less can be below, as predicted.
    """

    formats: Mapping[str, str]
    bytes: int
    error: float
    least: float

    @property
    def predicted_psnr_db(self) -> float:
        """Predicted PSNR of the picture, in dB."""
        return psnr_of(self.error)


@dataclass(frozen=True)
class _Option:
    form: str
    bytes: int
    error: float


def choose_formats(
    table: SensitivityTable, candidates: Sequence[str], target_bytes: int, float_bytes: int = 2
) -> Choice:
    """The choice with the least predicted error among those of at most `target_bytes`.

    Args:
        table: Of the U-Net.
        candidates: Formats to choose among; `float` is always one.
        target_bytes: What the weights of the table may take.
        float_bytes: Of a weight that stays as it is.

    Raises:
        OptionError: The table has no errors of a format, or even the smallest choice is larger.
    """
    options = _options(table, candidates, float_bytes)
    smallest = sum(min(each.bytes for each in some) for some in options.values())
    if target_bytes < smallest:
        raise OptionError(
            f"The weights cannot be stored in {target_bytes / 1e6:.1f} MB: with these formats "
            f"({', '.join(candidates)}) the smallest is {smallest / 1e6:.1f} MB; ask for that "
            "much, or allow formats of fewer bits."
        )
    dearest = max(each.error for some in options.values() for each in some) + 1.0
    low, high = 0.0, dearest
    for _ in range(_BISECTIONS):
        price = (low + high) / 2
        if _bytes(_best(options, price)) > target_bytes:
            low = price
        else:
            high = price
    chosen = _best(options, high)
    # Weak duality: no choice within the size can have less than this.
    least = _error(chosen) + high * (_bytes(chosen) - target_bytes)
    _spend(options, chosen, target_bytes)
    formats = {name: each.form for name, each in chosen.items()}
    return Choice(formats, _bytes(chosen), _error(chosen), max(least, 0.0))


def smallest_and_largest(
    table: SensitivityTable, candidates: Sequence[str], float_bytes: int = 2
) -> tuple[int, int]:
    """Bytes of the smallest choice and of the one in which nothing is compressed."""
    options = _options(table, candidates, float_bytes)
    return (
        sum(min(each.bytes for each in some) for some in options.values()),
        sum(some[0].bytes for some in options.values()),
    )


def _options(
    table: SensitivityTable, candidates: Sequence[str], float_bytes: int
) -> dict[str, list[_Option]]:
    """The candidates of each weight, `float` first."""
    missing = [name for name in candidates if name not in (*table.formats, FLOAT.name)]
    if missing:
        raise OptionError(
            f"The sensitivity table says nothing of {', '.join(missing)}, only of "
            f"{', '.join(table.formats)}; make one with --formats."
        )
    options = {}
    for layer in table.layers:
        some = [_Option(FLOAT.name, stored_bytes(FLOAT, layer.shape, float_bytes), 0.0)]
        for name in candidates:
            if name != FLOAT.name:
                size = stored_bytes(format_named(name), layer.shape, float_bytes)
                some.append(_Option(name, size, layer.errors[name]))
        options[layer.name] = some
    return options


def _best(options: Mapping[str, Sequence[_Option]], price: float) -> dict[str, _Option]:
    """The choice with the least error plus price, the smaller one where two are equal."""
    return {
        name: min(some, key=lambda each: (each.error + price * each.bytes, each.bytes))
        for name, some in options.items()
    }


def _spend(
    options: Mapping[str, Sequence[_Option]], chosen: dict[str, _Option], target_bytes: int
) -> None:
    """Takes better formats for as long as one fits, the most gain per byte first, in place."""
    left = target_bytes - _bytes(chosen)
    while True:
        steps = [
            ((now.error - each.error) / max(each.bytes - now.bytes, 1), name, each)
            for name, now in chosen.items()
            for each in options[name]
            if each.error < now.error and each.bytes - now.bytes <= left
        ]
        if not steps:
            return
        _, name, better = max(steps, key=lambda step: step[:2])
        left -= better.bytes - chosen[name].bytes
        chosen[name] = better


def _bytes(chosen: Mapping[str, _Option]) -> int:
    return sum(each.bytes for each in chosen.values())


def _error(chosen: Mapping[str, _Option]) -> float:
    return sum(each.error for each in chosen.values())
