"""Holds what `inspect` counts against the published figures of every model and decoder of the zoo.

Run: python scripts/inspect_table.py
It prints a row per component, and ends with status 1 where a single figure differs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdexport.core.checkpoint import ComponentSource
from kdexport.export.cost import TOKENS, component_costs
from kdexport.export.zoo import zoo, zoo_decoders
from kdexport.export.zoo_types import Piece
from rich.console import Console
from rich.table import Table

_EDGE = 64  # of the latents that parameters alone are counted at


@dataclass(frozen=True)
class Figure:
    """One published figure and what was counted.

    Attributes:
        model: Its name in the zoo.
        part: The component.
        what: `parameters`, or `MACs at N` with the edge of the latents or the number of tokens.
        published: The published figure.
        counted: The figure of `inspect`.
    """

    model: str
    part: str
    what: str
    published: int
    counted: int


def figures() -> Iterator[Figure]:
    """Every figure of the zoo; a piece that several models share is counted once."""
    seen: set[str] = set()
    for model, name, piece in _pieces():
        key = f"{piece.class_name} {piece.config}"
        if key not in seen:
            seen.add(key)
            yield from _count(model, name, piece)


def _pieces() -> Iterator[tuple[str, str, Piece]]:
    for model, entry in zoo().items():
        for name, piece in entry.models().items():
            yield model, name, piece
    for name, decoder in zoo_decoders().items():
        yield name, "vae", decoder.vae


def _count(model: str, name: str, piece: Piece) -> Iterator[Figure]:
    source = ComponentSource(name, _library(name), piece.class_name, Path(), piece.config)
    sizes = sorted({size for each in piece.expected.values() for size in each.macs} | {_EDGE})
    costs = {size: component_costs(source, *_latents(size)) for size in sizes}
    for part, expected in piece.expected.items():
        # Both text encoders of SDXL are published as `text_encoder`.
        counted = name if part == "text_encoder" else part
        parameters = costs[_EDGE][counted].parameters
        yield Figure(model, counted, "parameters", expected.parameters, parameters)
        for size, macs in expected.macs.items():
            yield Figure(model, counted, f"MACs at {size}", macs, costs[size][counted].macs)


def _latents(size: int) -> tuple[int, int]:
    edge = _EDGE if size == TOKENS else size
    return edge, edge


def _library(name: str) -> str:
    return "transformers" if name.startswith("text_encoder") else "diffusers"


def main() -> None:
    """Prints the table."""
    table = Table(title="Published and counted")
    for column in ("model", "component", "what"):
        table.add_column(column)
    for column in ("published", "counted", "difference"):
        table.add_column(column, justify="right")
    different, rows = 0, 0
    for each in figures():
        difference = each.counted - each.published
        different, rows = different + (difference != 0), rows + 1
        numbers = (f"{value:,}" for value in (each.published, each.counted, difference))
        table.add_row(each.model, each.part, each.what, *numbers)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(f"{rows} figures, {different} differ.")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
