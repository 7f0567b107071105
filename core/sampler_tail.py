"""The end of a sampler table, and what a run that begins there has of its own.

The weights of a table are a staircase: row `i` has one weight for each model output (or noise)
before it, so column `j` begins in a later row than column `j - 1`, or in the same one.
"""

from __future__ import annotations

from collections.abc import Sequence

from .sampler import SamplerTable, ten_digits

Column = tuple[float, ...]


def tail(full: SamplerTable, calls: int) -> SamplerTable:
    """The last calls of a table, without the outputs and noises of the calls before them.

    Args:
        full: The table.
        calls: How many calls to keep, at most all of them.
    """
    skipped = full.calls - calls
    drawn = sum(full.draws[:skipped])
    return SamplerTable(
        timesteps=full.timesteps[skipped:],
        initial=full.initial[skipped:],
        outputs=tuple(row[skipped:] for row in full.outputs[skipped:]),
        noise=tuple(row[drawn:] for row in full.noise[skipped:]),
        draws=full.draws[skipped:],
        scale=full.scale[skipped:],
    )


def new_columns(rows: Sequence[Column], known: Sequence[Column]) -> tuple[Column, ...]:
    """The first columns of a staircase, up to the last one that another does not have.

    Args:
        rows: The staircase.
        known: Another one of the same shape; weights are compared by the digits that are stored.
    """
    columns, others = _columns(rows), _columns(known)
    pairs = enumerate(zip(columns, others, strict=True), start=1)
    last = max((count for count, (new, old) in pairs if not _same(new, old)), default=0)
    return tuple(columns[:last])


def with_columns(rows: Sequence[Column], columns: Sequence[Column]) -> tuple[Column, ...]:
    """The rows of a staircase with its first columns replaced by `columns`."""
    first = [next(i for i, row in enumerate(rows) if len(row) > j) for j in range(len(columns))]
    return tuple(
        tuple(
            columns[j][i - first[j]] if j < len(columns) else value for j, value in enumerate(row)
        )
        for i, row in enumerate(rows)
    )


def _columns(rows: Sequence[Column]) -> list[Column]:
    return [tuple(row[index] for row in rows if index < len(row)) for index in range(len(rows[-1]))]


def _same(column: Column, other: Column) -> bool:
    return all(a == b or ten_digits(a) == ten_digits(b) for a, b in zip(column, other, strict=True))
