"""The table of what was measured, for people and for documents."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .report import Row
from .statistics import Spread

# A column named `>name` is aligned to the right.
COLUMNS = (
    *("who", ">s per picture", ">times as long", ">text s", ">U-Net s", ">decoder s"),
    *(">first picture s", ">caches empty s", ">peak RSS GB", ">on disk GB", ">PSNR dB"),
)
_ROLES = (("text_encoder", "text_encoder_2"), ("unet",), ("vae_decoder",))


def table_rows(rows: Sequence[Row]) -> list[list[str]]:
    """The cells of each row, in the order of `COLUMNS`; an error takes the place of figures."""
    return [_cells(row) for row in rows]


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown; errors follow below it."""
    names = [name.removeprefix(">") for name in COLUMNS]
    lines = [f"| {' | '.join(names)} |"]
    lines.append(f"|{'|'.join('--:' if name[0] == '>' else '---' for name in COLUMNS)}|")
    lines += [f"| {' | '.join(cells)} |" for cells in table_rows(rows)]
    failed = [f"- {row.name}: {row.error}" for row in rows if row.error is not None]
    return "\n".join([*lines, *(["", *failed] if failed else [])]) + "\n"


def _cells(row: Row) -> list[str]:
    failed = "failed" if row.error is not None and row.picture is None else ""
    return [
        row.name,
        failed or _spread(row.picture, 2),
        _spread(row.ratio, 2),
        *(_role(row, roles) for roles in _ROLES),
        _spread(row.start, 1),
        _spread(row.cold, 1),
        "" if row.peak_rss is None else f"{row.peak_rss / 1e9:.2f}",
        "" if row.bytes is None else f"{(row.bytes + row.cache_bytes) / 1e9:.2f}",
        _decibels(row.psnr_db),
    ]


def _role(row: Row, roles: Sequence[str]) -> str:
    """Seconds of a call, of two text encoders together."""
    seconds = [row.seconds[role] for role in roles if role in row.seconds]
    return f"{sum(seconds):.3f}" if seconds else ""


def _spread(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return ""
    text = f"{spread.median:.{digits}f}"
    if spread.count == 1 or spread.low == spread.high:
        return text
    return f"{text} ({spread.low:.{digits}f}…{spread.high:.{digits}f})"


def _decibels(psnr: float | None) -> str:
    if psnr is None:
        return ""
    return "equal" if psnr == math.inf else f"{psnr:.1f}"
