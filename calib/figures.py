"""The figures of compressed forms of a model: sizes, parity, scores; as JSON and as a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BundleError
from ..core.folder import whole_file
from ..core.manifest import Manifest
from ..core.parity import ParityRecord
from ..core.records import decode, encode


@dataclass(frozen=True)
class FormFigures:
    """One form of a model.

    Attributes:
        form: What the user called it: a precision, a format, a recipe.
        backend: `onnx`, `coreml` or `tensorrt`.
        bundle: Its folder, beside the file of the figures.
        bytes: Of all models of the bundle; of engines, the ONNX files they were built from.
        unet_bytes: Of its U-Net.
        component_psnr_db: Lowest PSNR of a component's outputs, by role; None where it is exact.
        image_psnr_db: Lowest PSNR of an 8-bit picture; None where it is exact.
        image_ssim: Lowest SSIM of one.
        passed: Whether all parity gates hold.
        scores: Share of right pictures by attribute, 0 to 1, or None where pictures cannot be
            scored.
        reference_scores: Those of diffusers in float32.
        seconds: Of exporting and of verifying, wall time.
    """

    form: str
    backend: str
    bundle: str
    bytes: int
    unet_bytes: int
    component_psnr_db: Mapping[str, float | None]
    image_psnr_db: float | None
    image_ssim: float
    passed: bool
    scores: Mapping[str, float] | None
    reference_scores: Mapping[str, float] | None
    seconds: Mapping[str, float]


def figures_of(
    form: str,
    bundle: Path,
    manifest: Manifest,
    record: ParityRecord,
    seconds: Mapping[str, float],
) -> FormFigures:
    """The figures of a verified bundle."""
    lowest: dict[str, float] = {}
    for check in record.components:
        found = check.difference.psnr_db if check.difference.finite else -math.inf
        lowest[check.role] = min(lowest.get(check.role, math.inf), found)
    pictures = [each for run in record.runs for each in run.images]
    sizes = {each.role: manifest.bytes_of(each) for each in manifest.components}
    quality = record.quality
    worst = min((each.psnr_db for each in pictures), default=-math.inf)
    return FormFigures(
        form=form,
        backend=manifest.backend,
        bundle=bundle.name,
        bytes=sum(sizes.values()),
        unet_bytes=sizes["unet"],
        component_psnr_db={role: _number(value) for role, value in lowest.items()},
        image_psnr_db=_number(worst),
        image_ssim=min((each.ssim for each in pictures), default=0.0),
        passed=record.passed,
        scores=dict(quality.bundle) if quality else None,
        reference_scores=dict(quality.reference) if quality else None,
        seconds={name: round(value, 1) for name, value in seconds.items()},
    )


def read_figures(file: Path) -> list[FormFigures]:
    """The figures that a file holds; none where there is no such file.

    Raises:
        BundleError: It holds something else.
    """
    if not file.exists():
        return []
    try:
        return [decode(FormFigures, each) for each in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"The figures '{file}' cannot be read ({error}); move the file away, or name another "
            "output folder."
        ) from error


def save_figures(figures: Sequence[FormFigures], file: Path) -> None:
    """Writes figures, the smallest model first, over an existing file."""
    ordered = sorted(figures, key=lambda each: (each.backend, each.unet_bytes))
    data: list[dict[str, Any]] = [encode(each) for each in ordered]
    with whole_file(file, overwrite=True) as staging:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        staging.write_text(text + "\n", encoding="utf-8")


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
