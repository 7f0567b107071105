"""One side beside another: pictures in turns, then medians, their ratio, and the difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from kdexport.core.compare import compare_images

from .alternate import Rounds, Timing, alternate
from .commands import as_decibels
from .parts import PartError
from .sides import Drawing, EngineSide, OrtSide, Side


def compare_sides(
    candidate: Side,
    baseline: Side | None,
    drawing: Drawing,
    rounds: Rounds,
    reference: Path | None,
    folder: Path,
    deadline: float,
) -> dict[str, Any]:
    """Lets two sides draw in turns.

    Args:
        candidate: Who is measured.
        baseline: Beside whom, or None.
        drawing: What is drawn.
        rounds: How often.
        reference: The picture of the first seed in float32, a `.npy` file, or None.
        folder: Where pictures and logs go.
        deadline: When to stop, of `time.monotonic()`.

    Returns:
        The figures of both, and how many times as fast the candidate is, by the medians.

    Raises:
        PartError: The candidate drew nothing; its own sentence.
    """
    require_bundle(candidate)
    sides = [candidate] if baseline is None else [candidate, baseline]
    timings = alternate(sides, drawing, rounds, deadline, folder)
    figures = [_figures(each, reference) for each in timings]
    if figures[0]["median_s"] is None:
        raise PartError(timings[0].error or "out of time")
    result: dict[str, Any] = {"candidate": figures[0], "ratio": None}
    if baseline is not None:
        result["baseline"] = figures[1]
        if figures[1]["median_s"] is not None:
            result["ratio"] = figures[1]["median_s"] / figures[0]["median_s"]
    return result


def draw_reference(side: Side, drawing: Drawing, folder: Path, deadline: float) -> dict[str, Any]:
    """Draws the picture that all others are compared with, once.

    Returns:
        The `.npy` file under `image`.

    Raises:
        PartError: It could not be drawn.
    """
    (timing,) = alternate([side], drawing, Rounds(1, 0), deadline, folder)
    if timing.image is None:
        raise PartError(timing.error or "out of time")
    return {"image": timing.image, "seconds": timing.warmup_s[0]}


def require_bundle(side: Side) -> None:
    """Raises `PartError` where a side's bundle could not be made."""
    if isinstance(side, OrtSide | EngineSide) and not Path(side.bundle).is_dir():
        raise PartError(f"there is no {Path(side.bundle).name}, see its row")


def _figures(timing: Timing, reference: Path | None) -> Mapping[str, Any]:
    figures = asdict(timing)
    figures["median_s"] = median(timing.picture_s) if timing.picture_s else None
    figures["psnr_db"] = None
    if timing.image is not None and reference is not None and reference.is_file():
        psnr = compare_images(np.load(timing.image), np.load(reference)).psnr_db
        figures["psnr_db"] = as_decibels(psnr)
    return figures
