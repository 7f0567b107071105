"""The figures of compressed forms of a model: sizes, parity, scores; as JSON and as a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import BundleError
from ..core.folder import whole_file
from ..core.manifest import Manifest
from ..core.parity import ParityRecord
from ..core.records import decode, encode

FIGURES_VERSION = 1
_VERSION_KEY = "kdexport_figures"
# Of what is not finite, in the place of a PSNR.
_BROKEN_DB = 0.0


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
        broken: What gave NaN or infinite values: roles, and `picture`. Their PSNR is 0.
        macs: Share of the U-Net's multiplications whose weights are compressed, or None where the
            manifest does not say.
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
    broken: tuple[str, ...]
    macs: float | None
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
        found = check.difference.psnr_db if check.difference.finite else _BROKEN_DB
        lowest[check.role] = min(lowest.get(check.role, math.inf), found)
    broken = {each.role for each in record.components if not each.difference.finite}
    if any(run.broken for run in record.runs):
        broken.add("picture")
    pictures = [each for run in record.runs for each in run.images]
    sizes = {each.role: manifest.bytes_of(each) for each in manifest.components}
    quality = record.quality
    worst = min((each.psnr_db for each in pictures), default=_BROKEN_DB)
    compression = manifest.component("unet").compression or {}
    return FormFigures(
        form=form,
        backend=manifest.backend,
        bundle=bundle.name,
        bytes=sum(sizes.values()),
        unet_bytes=sizes["unet"],
        component_psnr_db={role: _number(value) for role, value in lowest.items()},
        image_psnr_db=_BROKEN_DB if "picture" in broken else _number(worst),
        image_ssim=min((each.ssim for each in pictures), default=0.0),
        broken=tuple(sorted(broken)),
        macs=compression.get("macs"),
        passed=record.passed,
        scores=dict(quality.bundle) if quality else None,
        reference_scores=dict(quality.reference) if quality else None,
        seconds={name: round(value, 1) for name, value in seconds.items()},
    )


@dataclass(frozen=True)
class Sweep:
    """Forms of one model, all compared on the same pictures.

    Attributes:
        model: The model.
        weights_sha256: SHA-256 of each weight file, by path.
        drawn: What they are compared on, such as `steps`.
        forms: The forms, the smallest first within each backend.
    """

    model: str
    weights_sha256: Mapping[str, str]
    drawn: Mapping[str, Any]
    forms: tuple[FormFigures, ...] = ()

    def with_form(self, form: FormFigures) -> Sweep:
        """The same sweep with a form added, in the place of an older one in the same folder."""
        others = [each for each in self.forms if each.bundle != form.bundle]
        ordered = sorted([*others, form], key=lambda each: (each.backend, each.unet_bytes))
        return replace(self, forms=tuple(ordered))


def continued(sweep: Sweep, file: Path) -> Sweep:
    """A new sweep with the forms that a file has.

    Raises:
        BundleError: The file cannot be read, or its forms are of another model or were compared on
            other pictures.
    """
    if not file.exists():
        return sweep
    found = read_sweep(file)
    same = found.weights_sha256 == sweep.weights_sha256 and found.drawn == sweep.drawn
    if not same:
        was = ", ".join(f"{name} {value}" for name, value in found.drawn.items())
        raise BundleError(
            f"The forms in '{file.parent}' are of '{found.model}', compared with {was}; name "
            "another output folder, or ask for the same."
        )
    return replace(sweep, forms=found.forms)


def read_sweep(file: Path) -> Sweep:
    """Reads what `save_sweep` wrote.

    Raises:
        BundleError: It is something else.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if data.pop(_VERSION_KEY) != FIGURES_VERSION:
            raise ValueError("it is of another version")
        sweep: Sweep = decode(Sweep, data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"The figures '{file}' cannot be read ({error}); move the file away, or name another "
            "output folder."
        ) from error
    return sweep


def save_sweep(sweep: Sweep, file: Path) -> None:
    """Writes a sweep, over an existing file."""
    data = {_VERSION_KEY: FIGURES_VERSION, **encode(sweep)}
    with whole_file(file, overwrite=True) as staging:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        staging.write_text(text + "\n", encoding="utf-8")


def _number(value: float) -> float | None:
    """A PSNR as JSON has it: None where it is infinite, for equal arrays."""
    return value if math.isfinite(value) else None
