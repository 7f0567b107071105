"""A whole pipeline to a Core ML bundle, one component at a time."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ...core.errors import listing
from ...core.formats import FORMATS, Format
from ...core.manifest import Component, Manifest, record_files, save_manifest
from ...core.quantization import Quantization
from ..bundle_files import write_samplers
from ..skeleton import build_skeleton
from ..text import write_tokenizer_files
from ..weights import Weights
from .convert import to_program
from .metadata import PackageMetadata
from .parts import CoremlPart
from .ports import AppleModule
from .prepare import PreparedCoreml
from .save import Saved, save_packages

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program

# Called with what is being done, and how far it is, 0 to 1.
Report = Callable[[str, float], None]
# Operations of a float32 program that must stay in float32, each with the reason in words.
Measure = Callable[["Program", Component], Mapping[str, str]]

_VOCABULARY = ("vocab.json", "merges.txt")


def export_coreml(
    prepared: PreparedCoreml, bundle: Path, report: Report, measure: Measure | None
) -> Manifest:
    """Writes the bundle into an existing empty folder.

    Args:
        prepared: The checked export.
        bundle: The folder to write to.
        report: Told what is being done and how far it is.
        measure: Finds what must stay in float32, where the precision is `fp16`.

    Returns:
        The manifest, which is also written.

    Raises:
        KdexportError: See `to_program` and `save_packages`.
    """
    checkpoint = prepared.pipeline.checkpoint
    components = tuple(
        _write_part(part, component, prepared, bundle, report, measure)
        for part, component in zip(prepared.parts, prepared.manifest.components, strict=True)
    )
    for name in checkpoint.text_encoders:
        write_tokenizer_files(checkpoint, name, bundle)
    for name in _VOCABULARY:
        # Where Apple's library looks for them.
        shutil.copyfile(bundle / "tokenizer" / name, bundle / name)
    write_samplers(prepared.pipeline, bundle)
    report("hashing", 0.0)
    manifest = replace(prepared.manifest, components=components, files=record_files(bundle))
    save_manifest(manifest, bundle)
    return manifest


def _write_part(
    part: CoremlPart,
    component: Component,
    prepared: PreparedCoreml,
    bundle: Path,
    report: Report,
    measure: Measure | None,
) -> Component:
    program, module = _convert(part, prepared, report)
    islands: Mapping[str, str] = {}
    if measure is not None:
        islands = measure(program, component)
    paths = [bundle / file for file in part.files]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    options = prepared.options
    saved = save_packages(
        program,
        paths,
        inputs=module.inputs,
        outputs=module.outputs,
        precision=options.precision,
        islands=islands,
        target=options.target,
        metadata=_metadata(module, prepared),
        plan=prepared.plans.get(part.role),
        ranges=prepared.ranges,
        progress=lambda share: report(f"{part.role}: write", share),
    )
    return replace(
        component,
        parameters=sum(each.parameters for each in saved),
        islands=tuple(f"{name}: {reason}" for name, reason in islands.items()),
        operators=dict(sum((Counter(each.operators) for each in saved), Counter())),
        compression=_compression(part.role, saved, options.quantization),
    )


def _compression(
    role: str, saved: Sequence[Saved], quantization: Quantization | None
) -> dict[str, Any] | None:
    """What the manifest says of compressed weights."""
    weights = [each for package in saved for each in package.compressed]
    if quantization is None or not weights:
        return None
    formats = Counter(each.format.name for each in weights)
    bits = Counter(each.format.bits for each in weights)
    expected = quantization.recipe.expected
    return {
        "recipe": quantization.name,
        "method": listing(sorted({_method(each.format) for each in weights})),
        "bits": min(bits),
        "weights": len(weights),
        "weights_by_bits": {str(each): bits[each] for each in sorted(bits)},
        "formats": {name: formats[name] for name in FORMATS if name in formats},
        **({"expected": dict(expected)} if expected and role == "unet" else {}),
    }


def _method(form: Format) -> str:
    if form.kind == "palette":
        return "sparse k-means palettes" if form.sparse else "k-means palettes"
    return "integers, activations too" if form.activations else "integers"


def _convert(
    part: CoremlPart, prepared: PreparedCoreml, report: Report
) -> tuple[Program, AppleModule]:
    """The float32 program of a component; its weights live in the program from then on."""
    what = f"{part.role}: convert"
    report(what, 0.0)
    source = prepared.pipeline.checkpoint.component(part.component)
    inner = build_skeleton(source, torch.float32)
    load_weights(inner, prepared.pipeline.weights[part.component])
    module = part.wrap(inner)
    program = to_program(
        module, prepared.sizes, prepared.options.target, lambda share: report(what, share)
    )
    # The program has its own copies, or shares what it took over.
    module.inner = None
    return program, module


def load_weights(module: nn.Module, weights: Weights) -> None:
    """Gives a module on the meta device its weights, in place, as float32 on the CPU."""
    for owner_name, owner in module.named_modules():
        for name, _ in list(owner.named_parameters(recurse=False)):
            stored = weights.tensors[f"{owner_name}.{name}" if owner_name else name]
            array = stored.read().astype(np.float32, copy=False)
            setattr(owner, name, nn.Parameter(torch.from_numpy(array), requires_grad=False))
    for owner in module.modules():
        for name, buffer in list(owner.named_buffers(recurse=False)):
            assert not buffer.is_meta, f"the buffer {name} has no value"


def _metadata(module: AppleModule, prepared: PreparedCoreml) -> PackageMetadata:
    source, options = prepared.manifest.source, prepared.options
    return PackageMetadata(
        summary=module.summary,
        # A repository of the Hub is named after its owner.
        author=source.model.split("/")[0] if source.revision else "",
        licence=source.licence or "",
        extra={
            "kdexport.version": prepared.manifest.tools["kdexport"],
            "kdexport.model": source.model,
            "kdexport.attention": options.attention,
        },
    )
