"""What the report says, as the values that its template fills in."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.compare import Difference, ImageDifference
from ...core.folder import megabytes
from ...core.manifest import Component, Manifest
from ...core.parity import ComponentCheck, ImageCheck, ParityRecord
from .chart import step_chart
from .pictures import data_uri, heat_map
from .words import BACKENDS, decibels

# The bundle's pictures of a run and the reference's, `(images, height, width, 3)`, 8-bit.
Pictures = Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]

# Outputs by the dozen that say nothing more, unless one of them fails.
_MANY = ("hidden_states", "down_block_residual")


def report_view(
    manifest: Manifest, bundle: str, record: ParityRecord, pictures: Pictures
) -> dict[str, Any]:
    """The values of the template.

    Args:
        manifest: Of the bundle.
        bundle: Its name.
        record: What the verification found.
        pictures: Of each run that did not break off, in the order of the record.
    """
    drawn = iter(pictures)
    runs = [_run(run, None if run.broken else next(drawn)) for run in record.runs]
    return {
        "title": f"{manifest.source.model} as {BACKENDS[manifest.backend]}",
        "bundle": bundle,
        "passed": record.passed,
        "failures": record.failures(),
        "headline": _headline(record),
        "random": manifest.source.random_weights,
        "runs": runs,
        "chart": step_chart([_steps(run) for run in record.runs]),
        "components": [_check(each) for each in record.components if _shown(each)],
        "hidden": sum(not _shown(each) for each in record.components),
        "parts": [_part(manifest, each) for each in manifest.components],
        "total": megabytes(sum(each.bytes for each in manifest.files)),
        "quality": _quality(record),
        "environment": _environment(manifest, record),
        "commands": _commands(manifest, bundle, record),
    }


def _headline(record: ParityRecord) -> list[tuple[str, str]]:
    """The figures that decide, lowest first."""
    images = [image for run in record.runs for image in run.images]
    verdicts = record.verdicts
    figures = [("gates held", f"{sum(verdicts)} of {len(verdicts)}")]
    if images:
        worst = min(images, key=lambda image: image.psnr_db)
        figures.append(("lowest PSNR of a picture", decibels(worst.psnr_db)))
        figures.append(("lowest SSIM", f"{min(each.ssim for each in images):.4f}"))
    components = [each.difference for each in record.components]
    if components:
        broken = any(not each.finite for each in components)
        lowest = min((each.psnr_db for each in components if each.finite), default=math.nan)
        figures.append(("lowest PSNR of a component", decibels(math.nan if broken else lowest)))
    return figures


def _run(
    run: ImageCheck, pictures: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None
) -> dict[str, Any]:
    images = []
    if pictures is not None:
        for ours, theirs, found in zip(*pictures, run.images, strict=True):
            heat, scale = heat_map(ours, theirs)
            images.append(
                {
                    "ours": data_uri(ours),
                    "theirs": data_uri(theirs),
                    "heat": data_uri(heat),
                    "scale": scale,
                    "height": ours.shape[0],
                    "width": ours.shape[1],
                    **_image(found),
                }
            )
    return {
        "case": run.case,
        "prompt": run.prompt,
        "gate": run.gate,
        "passed": run.passed,
        "broken": run.broken,
        "images": images,
    }


def _image(found: ImageDifference) -> dict[str, str]:
    return {
        "psnr": decibels(found.psnr_db),
        "ssim": f"{found.ssim:.4f}",
        "max_abs": str(found.max_abs),
    }


def _steps(run: ImageCheck) -> tuple[str, list[float]]:
    values = [step.difference.psnr_db if step.difference.finite else math.nan for step in run.steps]
    return run.case, values


def _shown(check: ComponentCheck) -> bool:
    return not check.output.startswith(_MANY) or not check.passed


def _check(check: ComponentCheck) -> dict[str, Any]:
    return {
        "role": check.role,
        "output": check.output,
        "case": check.case,
        "gate": check.gate,
        "passed": check.passed,
        **_difference(check.difference),
    }


def _difference(found: Difference) -> dict[str, str]:
    if not found.finite:
        return dict.fromkeys(("relative_l2", "psnr", "max_abs"), "NaN or Inf")
    return {
        "relative_l2": f"{found.relative_l2:.1e}",
        "psnr": decibels(found.psnr_db),
        "max_abs": f"{found.max_abs:.2g}",
    }


def _part(manifest: Manifest, component: Component) -> dict[str, Any]:
    return {
        "role": component.role,
        "precision": component.precision,
        "parameters": f"{component.parameters:,}",
        "size": megabytes(manifest.bytes_of(component)),
        "operators": f"{sum(component.operators.values()):,}" if component.operators else "",
        "formats": ", ".join(f"{count} {name}" for name, count in component.formats.items()),
        "islands": component.islands,
    }


def _quality(record: ParityRecord) -> dict[str, Any] | None:
    found = record.quality
    if found is None:
        return None
    rows = [
        (name, f"{100 * found.reference[name]:.1f} %", f"{100 * found.bundle[name]:.1f} %")
        for name in found.reference
    ]
    return {
        "captions": found.captions,
        "alike": found.captions - found.unlike,
        "gate": found.gate,
        "passed": found.passed,
        "rows": rows,
    }


def _environment(manifest: Manifest, record: ParityRecord) -> list[tuple[str, str]]:
    source = manifest.source
    reference = ", ".join(f"{name} {value}" for name, value in record.reference.items())
    ran = ", ".join(f"{name} {value}" for name, value in record.runtime.items())
    rows = [
        ("compared with", reference),
        ("the bundle ran on", ran),
        ("made with", ", ".join(f"{name} {text}" for name, text in manifest.tools.items())),
        ("model", source.model + (f" at {source.revision}" if source.revision else "")),
        ("licence of the weights", source.licence or "not known"),
        (
            "engines",
            ", ".join(f"{each.file} (TensorRT {each.tensorrt})" for each in manifest.engines),
        ),
        ("seconds", ", ".join(f"{name} {value:.1f}" for name, value in record.seconds.items())),
    ]
    return [row for row in rows if row[1]]


def _commands(manifest: Manifest, bundle: str, record: ParityRecord) -> list[str]:
    packages = {"kdexport": manifest.tools.get("kdexport", "")}
    packages |= {name: record.reference[name] for name in ("torch", "diffusers", "transformers")}
    pinned = " ".join(f"{name}=={text}" for name, text in packages.items() if text)
    model = record.reference["model"]
    against = "" if model == manifest.source.model else f" --against {shlex.quote(model)}"
    verify = f"kdexport verify {shlex.quote(bundle)}{against}{_options(record)}"
    return [f"pip install {pinned}", verify]


def _options(record: ParityRecord) -> str:
    """What `verify` was told, as options of the command."""
    drawn: Mapping[str, Any] = record.drawn
    options = [f"--{name} {drawn[name]}" for name in ("steps", "seed", "guidance") if name in drawn]
    if "size" in drawn:
        options.append("--size {} {}".format(*drawn["size"]))
    options += [f"--prompt {shlex.quote(each)}" for each in drawn.get("prompts", ())]
    ran = record.runtime
    options += [f"--runtime {ran['engine']}", f"--provider {ran['provider']}"]
    return "".join(f" {each}" for each in options)
