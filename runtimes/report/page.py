"""Writes the report."""

from __future__ import annotations

from pathlib import Path

from ...core.folder import whole_file
from ...core.manifest import REPORT_NAME, Manifest
from ...core.parity import ParityRecord
from .template import render
from .view import Pictures, report_view


def write_report(
    folder: Path, bundle: str, manifest: Manifest, record: ParityRecord, pictures: Pictures
) -> Path:
    """Writes `report.html` into a folder, or replaces it; the file needs nothing beside it.

    Args:
        folder: Where it lies, the bundle or another.
        bundle: The bundle's name.
        manifest: Its manifest.
        record: What a verification of it found.
        pictures: For each run that did not break off, the bundle's pictures and the reference's,
            `(images, height, width, 3)`, 8-bit.

    Returns:
        The file.
    """
    page = render("report.html.j2", report_view(manifest, bundle, record, pictures))
    file = folder / REPORT_NAME
    with whole_file(file, overwrite=True) as staging:
        staging.write_text(page, encoding="utf-8")
    return file
