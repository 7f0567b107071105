"""A TensorRT bundle: an ONNX bundle, and beside each model its engines."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.errors import BundleError
from ...core.folder import link_or_copy
from ...core.gpus import Gpu
from ...core.guidance import is_guided
from ...core.manifest import (
    PARITY_NAME,
    Component,
    EngineRecord,
    Manifest,
    check_files,
    load_manifest,
    record_files,
    save_manifest,
)
from ...core.parity import NOT_EXECUTED
from ...core.profiles import Profile, shape_ranges
from ...core.tensorrt_options import TensorrtOptions
from ..bundle_files import write_json
from .build import check_request
from .cache import cached_engine
from .device import local_name
from .key import engine_key
from .libraries import library_version
from .request import EngineRequest, file_name, settings_of

# Called with what is being done, and how far it is, 0 to 1.
Report = Callable[[str, float], None]


def copy_bundle(source: Path, staging: Path) -> Manifest:
    """Puts the models of an ONNX or TensorRT bundle into an empty folder, as links where it can.

    Args:
        source: The bundle; its files must be what its manifest says.
        staging: Where the new bundle is made.

    Returns:
        The manifest of the source, without engines, whose files are left behind.

    Raises:
        BundleError: It is of another kind, or damaged.
    """
    manifest = load_manifest(source)
    if manifest.backend not in ("onnx", "tensorrt"):
        raise BundleError(
            f"'{source}' is a bundle for {manifest.backend}; engines are built from ONNX: name an "
            "ONNX bundle, or the model itself."
        )
    check_files(manifest, source)
    engines = {each.file for each in manifest.engines}
    for record in manifest.files:
        if record.path in engines:
            continue
        target = staging / record.path
        target.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(source / record.path, target)
    if manifest.parity is not None:
        # It holds for these files, whoever runs them.
        shutil.copyfile(source / PARITY_NAME, staging / PARITY_NAME)
    return replace(manifest, engines=())


def at_best_size(manifest: Manifest, profile: Profile) -> Manifest:
    """The manifest with the size that the engines are tuned for as the default."""
    height, width = profile.height.optimum, profile.width.optimum
    return replace(manifest, defaults=replace(manifest.defaults, height=height, width=width))


def add_engines(
    bundle: Path,
    manifest: Manifest,
    options: TensorrtOptions,
    gpus: Sequence[Gpu],
    profile: Profile,
    request: str | None,
    report: Report,
) -> Manifest:
    """Builds the engines of every component for every GPU, and writes the manifest.

    Args:
        bundle: The folder with the ONNX files, which gets the engines.
        manifest: Of the ONNX files.
        options: How to build.
        gpus: What to build for, as `resolve_targets` gives it.
        profile: The sizes that the engines take.
        request: What was asked for, as the manifest records it.
        report: Told what is being done and how far it is.

    Raises:
        OptionError: A GPU lacks a type of the ONNX files, or a profile cannot be.
        ExportError: TensorRT does not take a graph, or there is too little memory.
        DependencyError: The library is not installed.
    """
    version = library_version(options.engine)
    requests = [
        _request(bundle, component, manifest, options, profile, gpu)
        for component in manifest.components
        for gpu in gpus
    ]
    for wanted in requests:
        # Of the last one too before minutes of building the first.
        check_request(wanted)
    records = [_build(bundle, each, version, report) for each in requests]
    report("hashing", 0.0)
    tools = {**manifest.tools, options.library: version}
    made = replace(
        manifest,
        backend="tensorrt",
        tools=tools,
        engines=tuple(records),
        request=request,
        files=record_files(bundle),
        parity=_labelled(manifest.parity, bundle),
    )
    save_manifest(made, bundle)
    return made


def _labelled(parity: Mapping[str, Any] | None, bundle: Path) -> dict[str, Any] | None:
    """The parity record of the ONNX files, which says that the engines did not run; written too."""
    if parity is None:
        return None
    record = {**parity, "runtime": {**parity["runtime"], "tensorrt": NOT_EXECUTED}}
    write_json(bundle / PARITY_NAME, record)
    return record


def rows_per_image(manifest: Manifest) -> int:
    """Rows of the U-Net for an image where the bundle's default guidance is used."""
    return 2 if is_guided(manifest.defaults.guidance, manifest.guidance_embedding) else 1


def _request(
    bundle: Path,
    component: Component,
    manifest: Manifest,
    options: TensorrtOptions,
    profile: Profile,
    gpu: Gpu,
) -> EngineRequest:
    factor = manifest.latents.factor
    return EngineRequest(
        role=component.role,
        onnx=bundle / component.file,
        kind=options.engine,
        capability=gpu.capability,
        ranges=shape_ranges(component, profile, rows_per_image(manifest), factor),
        settings=settings_of(options),
        device=local_name() if options.engine == "native" else None,
    )


def _build(bundle: Path, request: EngineRequest, version: str, report: Report) -> EngineRecord:
    what = f"{request.role}: engine for {request.target}"
    report(what, 0.0)
    file = file_name(request.role, request.kind, request.capability)
    cached_engine(request, bundle / file, lambda share: report(what, share))
    return EngineRecord(
        role=request.role,
        file=file,
        kind=request.kind,
        capability=request.target,
        tensorrt=version,
        key=engine_key(request, version),
        profile=request.ranges,
        settings=request.settings.to_json() | _tuned(request.device),
    )


def _tuned(device: str | None) -> dict[str, str]:
    return {} if device is None else {"tuned on": device}
