"""Build engines, verify what they were built from, commit."""

from __future__ import annotations

from pathlib import Path

from ..core.checkpoint import Checkpoint
from ..core.errors import BundleError
from ..core.folder import require_vacant, whole_folder
from ..core.manifest import MANIFEST_NAME, Manifest, check_files, load_manifest, save_manifest
from ..core.options import VerifyOptions
from ..core.tensorrt_options import TensorrtOptions
from .exporting import Exported, require_reference, save_card, verify_staging
from .progress import Report
from .quantization import QuantizeRequest
from .quantizing_tensorrt import quantized_options, request_key


def export_tensorrt_and_verify(
    checkpoint: Checkpoint,
    options: TensorrtOptions,
    bundle: Path,
    verify: VerifyOptions | None,
    overwrite: bool,
    report: Report,
    quantize: QuantizeRequest | None = None,
) -> Exported:
    """Makes a TensorRT bundle, as `export_and_verify` makes an ONNX bundle.

    The ONNX files are verified before the engines are built from them, which takes longer.

    Args:
        checkpoint: The pipeline.
        options: How to export it.
        bundle: The folder to make.
        verify: How to verify it, or None to skip that.
        overwrite: Replace an existing folder.
        report: Told what is being done and how far it is.
        quantize: What weights of few bits are made from, in the place of the options' own
            quantization; None keeps that.

    Raises:
        ParityError: A gate failed; no bundle is left.
        KdexportError: The export or a build failed; no bundle is left.
    """
    from ..export.onnx_bundle import export_onnx
    from ..export.tensorrt.bundle import add_engines, at_best_size
    from ..export.tensorrt.prepare import prepare_tensorrt
    from ..runtimes.plan import allowed_size

    require_vacant(bundle, overwrite)
    if verify:
        require_reference(checkpoint)
    digest = digest_of(checkpoint, options, verify, quantize)
    if quantize is not None:
        options = quantized_options(options, quantize, checkpoint, report)
    prepared = prepare_tensorrt(checkpoint, options)
    if verify:
        # Now, not after minutes of exporting.
        best = prepared.profile.height.optimum, prepared.profile.width.optimum
        allowed_size(prepared.onnx.shapes, (verify.height, verify.width), best)
    with whole_folder(bundle, needed_bytes=prepared.bytes_needed, overwrite=overwrite) as staging:
        manifest = at_best_size(export_onnx(prepared.onnx, staging, report), prepared.profile)
        save_manifest(manifest, staging)
        verification = verify_staging(staging, checkpoint, verify, report) if verify else None
        manifest = load_manifest(staging)
        profile = prepared.profile
        add_engines(staging, manifest, options, prepared.gpus, profile, digest, report)
        save_card(staging)
    return Exported(bundle, load_manifest(bundle), verification)


def digest_of(
    checkpoint: Checkpoint,
    options: TensorrtOptions,
    verify: VerifyOptions | None,
    quantize: QuantizeRequest | None,
) -> str:
    """What the manifest records of a request; see `request_digest` and `request_key`."""
    from ..export.tensorrt.prepare import request_digest

    key = None if quantize is None else request_key(quantize)
    return request_digest(checkpoint, options, verify, key)


def engines_of_bundle(
    source: Path, options: TensorrtOptions, bundle: Path, overwrite: bool, report: Report
) -> Manifest:
    """Builds engines from the ONNX files of a bundle, which are not exported again.

    Args:
        source: An ONNX bundle, or a TensorRT bundle that is to have other engines.
        options: How to build them.
        bundle: The folder to make.
        overwrite: Replace an existing folder.
        report: Told what is being done and how far it is.

    Raises:
        KdexportError: The source is no such bundle, or a build failed; no bundle is left.
    """
    from ..core.profiles import Profile, require_drawable
    from ..export.tensorrt.bundle import add_engines, at_best_size, copy_bundle, rows_per_image
    from ..export.tensorrt.cache import engine_bytes
    from ..export.tensorrt.targets import resolve_targets

    require_vacant(bundle, overwrite)
    gpus = resolve_targets(options)
    known = load_manifest(source)
    engines = sum(engine_bytes(known.bytes_of(each)) for each in known.components)
    needed = sum(each.bytes for each in known.files) + len(gpus) * engines
    profile = Profile.parse(options.profile, (known.defaults.height, known.defaults.width))
    require_drawable(profile, known.shapes, rows_per_image(known))
    with whole_folder(bundle, needed_bytes=needed, overwrite=overwrite) as staging:
        manifest = at_best_size(copy_bundle(source, staging), profile)
        add_engines(staging, manifest, options, gpus, profile, None, report)
        save_card(staging)
    return load_manifest(bundle)


def unchanged(bundle: Path, digest: str) -> Manifest | None:
    """The manifest of a whole bundle that was made from the same request, else None."""
    if not (bundle / MANIFEST_NAME).is_file():
        return None
    try:
        manifest = load_manifest(bundle)
        if manifest.request != digest:
            return None
        check_files(manifest, bundle)
    except BundleError:
        # Damaged or of another version: it is made again, where that is allowed.
        return None
    return manifest
