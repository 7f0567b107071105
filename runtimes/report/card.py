"""Writes the model card: what a bundle is, how to run it, and how near it is to diffusers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.engines import ENGINES
from ...core.errors import listing
from ...core.folder import megabytes, whole_file
from ...core.gpus import gpus_of
from ...core.hub import public_name
from ...core.manifest import (
    CARD_NAME,
    CARD_PLACEHOLDER,
    Component,
    EngineRecord,
    Manifest,
)
from .front_matter import base_model, front_matter
from .template import render
from .words import BACKENDS, decibels

_FAMILIES = {"sd": "Stable Diffusion", "sdxl": "Stable Diffusion XL"}
# The pipelines that bundles were loaded with, not all that optimum has.
_OPTIMUM = {
    "StableDiffusionPipeline": "ORTStableDiffusionPipeline",
    "StableDiffusionXLPipeline": "ORTStableDiffusionXLPipeline",
}
# What runs a bundle of each kind.
_EXTRAS = {"onnx": "cpu", "coreml": "coreml", "tensorrt": "tensorrt"}


def write_card(bundle: Path, manifest: Manifest) -> Path:
    """Writes `README.md` into a bundle, or replaces it; the manifest does not hash it.

    Args:
        bundle: The bundle.
        manifest: Its manifest, with the parity record where it was verified.

    Returns:
        The file.
    """
    file = bundle / CARD_NAME
    with whole_file(file, overwrite=True) as staging:
        staging.write_text(render_card(manifest), encoding="utf-8")
    return file


def render_card(manifest: Manifest) -> str:
    """The model card of a bundle: YAML for the Hub, then Markdown."""
    return render("card.md.j2", card_view(manifest))


def card_view(manifest: Manifest) -> dict[str, Any]:
    """The values of the template."""
    source, defaults = manifest.source, manifest.defaults
    added = {name: getattr(source, name) for name in ("base", "config", "decoder", "controlnet")}
    return {
        "front_matter": front_matter(manifest),
        "placeholder": CARD_PLACEHOLDER,
        "title": f"{public_name(source.model)} as {BACKENDS[manifest.backend]}",
        "model": public_name(source.model),
        "added": {name: public_name(each) for name, each in added.items() if each},
        "adapters": [(public_name(each.model), f"{each.scale:g}") for each in source.adapters],
        "backend": manifest.backend,
        "backend_name": BACKENDS[manifest.backend],
        "family": _FAMILIES[manifest.family],
        "source": source,
        "on_hub": base_model(manifest) is not None,
        "parts": [_part(manifest, each) for each in manifest.components],
        "total": megabytes(sum(each.bytes for each in manifest.files)),
        "defaults": defaults,
        "sizes": _sizes(manifest),
        "samplers": [each.name for each in manifest.samplers],
        "from_picture": any(each.image for each in manifest.samplers),
        "control": manifest.control is not None,
        "guided": defaults.guidance > 1,
        "extra": _extra(manifest),
        "version": manifest.tools.get("kdexport", ""),
        "optimum": _optimum(manifest),
        "coreml": manifest.coreml,
        "engines": [_engine(each) for each in manifest.engines],
        "parity": _parity(manifest.parity),
        "limits": _limits(manifest),
    }


def _part(manifest: Manifest, component: Component) -> dict[str, str]:
    formats = ", ".join(f"{count} {name}" for name, count in component.formats.items())
    return {
        "role": component.role,
        "precision": component.precision,
        "formats": formats,
        "parameters": f"{component.parameters:,}",
        "size": megabytes(manifest.bytes_of(component)),
    }


def _sizes(manifest: Manifest) -> str:
    shapes = manifest.shapes
    only = shapes.sizes
    if shapes.height is not None and shapes.width is not None:
        only = ((shapes.height, shapes.width),)
    if only:
        return " and ".join(f"{height}×{width}" for height, width in only) + " only"
    return f"multiples of {shapes.multiple} pixels"


def _extra(manifest: Manifest) -> str:
    """The extra of the package that runs a bundle."""
    if any(each.kind == "native" for each in manifest.engines):
        return "tensorrt-native"
    return _EXTRAS[manifest.backend]


def _optimum(manifest: Manifest) -> str | None:
    """The pipeline of optimum that loads the folder; None where there is none."""
    # ONNX Runtime itself has hardly a kernel for bfloat16 on the CPU.
    wide = all(each.precision != "bf16" for each in manifest.components)
    if manifest.backend != "onnx" or manifest.control is not None or not wide:
        return None
    return _OPTIMUM.get(manifest.source.pipeline_class)


def _engine(engine: EngineRecord) -> dict[str, str]:
    return {
        "file": engine.file,
        "gpus": f"{engine.capability} ({listing(gpus_of(engine.capability), 4)})",
        "library": f"{ENGINES[engine.kind].title} {engine.tensorrt}",
    }


def _parity(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a verification found, the worst output of each component; None where there was none."""
    if record is None:
        return None
    checks: dict[str, list[Mapping[str, Any]]] = {}
    for check in record["components"]:
        checks.setdefault(check["role"], []).append(check)
    images = [image for run in record["runs"] for image in run["images"]]
    verdicts = [each["passed"] for each in (*record["components"], *record["runs"])]
    quality = record.get("quality")
    if quality is not None:
        verdicts.append(quality["passed"])
    return {
        "passed": record["passed"],
        "held": sum(verdicts),
        "gates": len(verdicts),
        "reference": {**record["reference"], "model": public_name(record["reference"]["model"])},
        "runtime": record["runtime"],
        "roles": [_worst(role, each) for role, each in checks.items()],
        "images": len(images),
        "broken": sum(run.get("broken") is not None for run in record["runs"]),
        "image_psnr": decibels(min((_number(each) for each in images), default=math.nan)),
        "image_ssim": f"{min((each['ssim'] for each in images), default=math.nan):.4f}",
        "image_gates": sorted({run["gate"] for run in record["runs"]}),
        "quality": quality,
    }


def _worst(role: str, checks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The output of a component that is furthest from the reference."""
    finite = all(each["difference"]["finite"] for each in checks)
    lowest = min(_number(each["difference"]) for each in checks) if finite else math.nan
    return {
        "role": role,
        "psnr": decibels(lowest),
        "gates": sorted({each["gate"] for each in checks}),
        "passed": all(each["passed"] for each in checks),
    }


def _number(difference: Mapping[str, Any]) -> float:
    """A PSNR that JSON has no number for is that of equal arrays."""
    value = difference["psnr_db"]
    return math.inf if value is None else float(value)


def _limits(manifest: Manifest) -> list[str]:
    """What a reader must not believe, a sentence each."""
    found = []
    if manifest.source.random_weights:
        found.append("The weights are random: the pictures mean nothing.")
    found += _limits_of_parity(manifest)
    if any(each.compression for each in manifest.components):
        found.append(
            "Weights are stored in fewer bits: the pictures differ visibly from those of the "
            "source, by no more than the gates above allow."
        )
    if manifest.source.licence is None:
        found.append("The licence of the weights is not known to kdexport; ask their source.")
    added = [name for name in ("decoder", "base", "controlnet") if getattr(manifest.source, name)]
    if manifest.source.adapters:
        added.append("adapters")
    if added:
        found.append(f"What was added ({', '.join(added)}) may have a licence of its own.")
    return found


def _limits_of_parity(manifest: Manifest) -> list[str]:
    record = manifest.parity
    if record is None:
        return ["This bundle was not compared with diffusers."]
    found = []
    ran = record["runtime"]
    if "tensorrt" in ran:
        found.append(
            "The engines were not executed when this was written: compared were the ONNX files "
            "that they were built from."
        )
    if ran.get("engine") == "mil":
        found.append(
            "The packages were evaluated by kdexport's own evaluator of Core ML programs, not by "
            "Core ML on an Apple device."
        )
    tested = manifest.shapes.tested.get("unet", {})
    factor = manifest.latents.factor
    sides = sorted({size * factor for name in ("height", "width") for size in tested.get(name, ())})
    if sides:
        found.append(
            "Other sizes than those compared (sides of "
            f"{', '.join(map(str, sides))} pixels) were not compared."
        )
    return found
