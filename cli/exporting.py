"""Export, verify, commit: what `onnx` and `demo` have in common."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.checkpoint import Checkpoint
from ..core.errors import ParityError
from ..core.folder import require_vacant, whole_folder
from ..core.manifest import PARITY_NAME, Manifest, load_manifest, save_manifest
from ..core.options import OnnxOptions, VerifyOptions
from ..core.parity import ParityRecord
from .common import Report

if TYPE_CHECKING:
    from ..runtimes.verify import Verification


@dataclass(frozen=True)
class Exported:
    """A finished bundle; the verification is None where it was skipped."""

    bundle: Path
    manifest: Manifest
    verification: Verification | None


def export_and_verify(
    checkpoint: Checkpoint,
    options: OnnxOptions,
    bundle: Path,
    verify: VerifyOptions | None,
    overwrite: bool,
    report: Report,
) -> Exported:
    """Makes a bundle that appears only when it is whole and, unless told otherwise, verified.

    Args:
        checkpoint: The pipeline.
        options: How to export it.
        bundle: The folder to make.
        verify: How to verify it, or None to skip that.
        overwrite: Replace an existing folder.
        report: Told what is being done and how far it is.

    Raises:
        OptionError: The size to verify at does not fit the model.
        DependencyError: Adapters are to be verified, and peft is missing.
        ParityError: A gate failed; no bundle is left.
        KdexportError: The export failed; no bundle is left.
    """
    from ..export.onnx_bundle import export_onnx
    from ..export.prepare import prepare_export
    from ..runtimes.plan import fitting_size

    require_vacant(bundle, overwrite)
    if verify and checkpoint.adapters:
        from ..runtimes.torch_lora import require_peft

        require_peft()
    prepared = prepare_export(checkpoint, options)
    if verify:
        # Now, not after minutes of exporting.
        shapes, size = prepared.shapes, prepared.image_size
        fitting_size("height", verify.height, shapes.height, size, shapes.multiple)
        fitting_size("width", verify.width, shapes.width, size, shapes.multiple)
    with whole_folder(bundle, needed_bytes=prepared.bytes_needed, overwrite=overwrite) as staging:
        export_onnx(prepared, staging, report)
        verification = _verify(staging, checkpoint, verify, report) if verify else None
    return Exported(bundle, load_manifest(bundle), verification)


def _verify(
    staging: Path, checkpoint: Checkpoint, options: VerifyOptions, report: Report
) -> Verification:
    from ..runtimes.verify import verify_bundle

    verification = verify_bundle(staging, checkpoint, options, report)
    require_parity(verification.record, "no bundle was written")
    save_verification(verification, staging)
    return verification


def save_verification(verification: Verification, bundle: Path) -> None:
    """Writes `parity.json`, and a manifest that carries the same record."""
    manifest, data = load_manifest(bundle), verification.record.to_json()
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    (bundle / PARITY_NAME).write_text(text + "\n", encoding="utf-8")
    shapes = replace(manifest.shapes, tested=verification.tested)
    save_manifest(replace(manifest, parity=data, shapes=shapes), bundle)


def require_parity(record: ParityRecord, consequence: str) -> None:
    """Raises `ParityError` naming the failed gates."""
    failures = record.failures()
    if not failures:
        return
    precisions = {check.precision for check in record.components}
    advice = "Please report this model with its parity figures"
    if "fp16" in precisions:
        advice = "Try --precision mixed or fp32"
    elif "mixed" in precisions:
        advice = "Try --precision fp32"
    raise ParityError(
        f"{len(failures)} parity gates failed, {consequence}: {'; '.join(failures[:3])}"
        f"{' …' if len(failures) > 3 else ''}. {advice}."
    )
