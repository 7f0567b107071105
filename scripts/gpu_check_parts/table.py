"""The report: one Markdown table, and the same figures as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .parts import Record

_COLUMNS = (
    *("model", "what", "images/s", "s per image", "times as fast as eager"),
    *("dB to float32", "s to open", "note"),
)
_ALIGNMENT = "|---|---|--:|--:|--:|--:|--:|---|"


def markdown(machine: Mapping[str, Any], records: Sequence[Record]) -> str:
    """The table, under a line on the machine."""
    gpus = ", ".join(
        f"{each['name']} ({each['memory']}, driver {each['driver']})" for each in machine["gpus"]
    )
    versions = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    lines = [
        f"{gpus or 'No GPU'}; {machine['system']}, Python {machine['python']}; {versions}.",
        "",
        "Random weights of the exact architectures. Seconds are medians, from the text to the "
        "pixels; each row drew in turns with diffusers (eager, float16). dB: PSNR of an 8-bit "
        "picture against diffusers in float32 on the same device.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        _ALIGNMENT,
    ]
    for record in records:
        lines += [f"| {' | '.join(cells)} |" for cells in _rows(record)]
    return "\n".join(lines) + "\n"


def _rows(record: Record) -> list[list[str]]:
    head = [record.case, record.what]
    if record.error is not None:
        return [[*head, *[""] * 5, record.error.replace("|", "/")]]
    if not record.result:
        return [[*head, *[""] * 5, "not run yet; run again to go on"]]
    if "candidate" in record.result:
        return [[*head, *_timed(record.result)]]
    return [[*head, *[""] * 5, _note(record)]]


def _timed(result: Mapping[str, Any]) -> list[str]:
    figures, ratio = result["candidate"], result["ratio"]
    notes = [f"first picture {figures['warmup_s'][0]:.2f} s"] if figures["warmup_s"] else []
    notes += [f"{len(figures['picture_s'])} pictures"]
    notes += [figures["error"]] if figures["error"] else []
    beside = result.get("baseline")
    if beside is not None and ratio is None:
        notes.append(f"nothing beside it: {beside['error']}")
    return [
        f"{1 / figures['median_s']:.2f}",
        f"{figures['median_s']:.4f}",
        "" if ratio is None else f"{ratio:.2f}",
        _decibels(figures["psnr_db"]),
        f"{figures['opening_s']:.1f}",
        "; ".join(notes).replace("|", "/"),
    ]


def _note(record: Record) -> str:
    result = record.result
    if "passed" in result:
        worst = ", ".join(
            f"{role} {_decibels(value)} dB" for role, value in result["components_db"].items()
        )
        verdict = "every gate passed" if result["passed"] else "A GATE FAILED"
        return f"{verdict}: {worst}, picture {_decibels(result['picture_db'])} dB"
    if "bytes" in result:
        return f"{result['bytes'] / 1e9:.2f} GB in {record.seconds:.0f} s"
    return f"{record.seconds:.0f} s"


def _decibels(value: float | str | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.1f}"
