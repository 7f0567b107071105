"""The figures of a sweep as a page: table, plot, and the way to every bundle's own report."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..core.folder import megabytes, whole_file
from ..core.manifest import REPORT_NAME
from ..runtimes.report.template import render
from ..runtimes.report.words import BACKENDS, decibels
from .figures import FormFigures, Sweep


def write_sweep_page(sweep: Sweep, plot: Path, file: Path) -> None:
    """Writes the page, over an existing one; it needs nothing beside it but for its links.

    Args:
        sweep: The figures.
        plot: The PNG that `plot_figures` drew of them.
        file: The page, in the folder of the bundles.
    """
    page = render("sweep.html.j2", _view(sweep, plot))
    with whole_file(file, overwrite=True) as staging:
        staging.write_text(page, encoding="utf-8")


def _view(sweep: Sweep, plot: Path) -> dict[str, Any]:
    passed = sum(form.passed for form in sweep.forms)
    references = [form.reference_scores for form in sweep.forms if form.reference_scores]
    steps = sweep.drawn["steps"]
    return {
        "model": sweep.model,
        "passed": passed == len(sweep.forms),
        "verdict": f"{passed} of {len(sweep.forms)} forms pass their parity gates",
        "drawn": f"{sweep.drawn['height']}x{sweep.drawn['width']} pixels, {steps} steps",
        "plot": f"data:image/png;base64,{base64.b64encode(plot.read_bytes()).decode()}",
        "forms": [_form(form) for form in sweep.forms],
        "scored": _percent(references[0]["overall"]) if references else None,
    }


def _form(form: FormFigures) -> dict[str, Any]:
    return {
        "backend": BACKENDS[form.backend],
        "name": form.form,
        "report": f"{quote(form.bundle)}/{REPORT_NAME}",
        "size": megabytes(form.bytes),
        "unet_size": megabytes(form.unet_bytes),
        "unet": _decibels(form, "unet", form.component_psnr_db.get("unet")),
        "picture": _decibels(form, "picture", form.image_psnr_db),
        "ssim": f"{form.image_ssim:.4f}",
        "captions": "" if form.scores is None else _percent(form.scores["overall"]),
        "passed": form.passed,
    }


def _decibels(form: FormFigures, what: str, value: float | None) -> str:
    if what in form.broken:
        return decibels(math.nan)
    return decibels(math.inf if value is None else value)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
