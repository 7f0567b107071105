"""Export, verify, commit: what the exporting commands have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.checkpoint import Checkpoint
from ..core.compare import gated_as
from ..core.coreml_options import CoremlOptions
from ..core.errors import ParityError
from ..core.folder import require_vacant, whole_file, whole_folder
from ..core.formats import FORMATS
from ..core.manifest import PARITY_NAME, Component, Manifest, load_manifest, save_manifest
from ..core.options import OnnxOptions, VerifyOptions
from ..core.parity import ParityRecord
from .progress import Report

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program

    from ..export.coreml.bundle import Measure
    from ..export.coreml.prepare import PreparedCoreml
    from ..runtimes.torch_recording import Trajectory
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
    """Makes an ONNX bundle that appears only when it is whole and, unless told otherwise, verified.

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
    from ..runtimes.plan import allowed_size

    require_vacant(bundle, overwrite)
    if verify:
        require_reference(checkpoint)
    prepared = prepare_export(checkpoint, options)
    if verify:
        # Now, not after minutes of exporting.
        size = prepared.pipeline.image_size
        allowed_size(prepared.shapes, (verify.height, verify.width), (size, size))
    with whole_folder(bundle, needed_bytes=prepared.bytes_needed, overwrite=overwrite) as staging:
        export_onnx(prepared, staging, report)
        verification = verify_staging(staging, checkpoint, verify, report) if verify else None
        save_card(staging)
    return Exported(bundle, load_manifest(bundle), verification)


def export_coreml_and_verify(
    checkpoint: Checkpoint,
    options: CoremlOptions,
    bundle: Path,
    verify: VerifyOptions,
    skip_verification: bool,
    overwrite: bool,
    report: Report,
) -> Exported:
    """Makes a Core ML bundle, as `export_and_verify` makes an ONNX bundle.

    The reference runs first: what it feeds its components is also what float16 is measured on.

    Args:
        checkpoint: The pipeline.
        options: How to export it.
        bundle: The folder to make.
        verify: What the reference draws.
        skip_verification: Keep the bundle without comparing it.
        overwrite: Replace an existing folder.
        report: Told what is being done and how far it is.

    Raises:
        ParityError: A component cannot be float16, or a gate failed; no bundle is left.
        KdexportError: The export failed; no bundle is left.
    """
    from ..export.coreml.bundle import export_coreml
    from ..export.coreml.prepare import prepare_coreml
    from ..runtimes.verify import record_reference

    require_vacant(bundle, overwrite)
    recorded = options.precision == "fp16" or not skip_verification
    if recorded:
        require_reference(checkpoint)
    prepared = prepare_coreml(checkpoint, options)
    with whole_folder(bundle, needed_bytes=prepared.bytes_needed, overwrite=overwrite) as staging:
        runs: list[Trajectory] = []
        if recorded:
            runs = record_reference(prepared.manifest, checkpoint, verify, report)
        export_coreml(prepared, staging, report, _measure(prepared, runs, report))
        verification = None
        if not skip_verification:
            verification = _compare(staging, checkpoint, runs, report)
        save_card(staging)
    return Exported(bundle, load_manifest(bundle), verification)


def _measure(
    prepared: PreparedCoreml, runs: Sequence[Trajectory], report: Report
) -> Measure | None:
    """Finds what must stay in float32 on what the reference was fed; None where everything does."""
    if prepared.options.precision == "fp32":
        return None
    from ..calib.islands import at_last_timestep, find_islands
    from ..runtimes.as_exported import as_exported
    from ..runtimes.verify import compared_cases

    last = prepared.pipeline.checkpoint.scheduler.get("num_train_timesteps", 1000) - 1

    def measure(program: Program, component: Component) -> Mapping[str, str]:
        recorded = compared_cases(component, runs)
        cases = [as_exported(case, prepared.manifest, runs[0]) for case in recorded]
        feeds = at_last_timestep([case.feed for case in cases], last)
        return find_islands(
            program, component, feeds, lambda share: report(f"{component.role}: measure", share)
        )

    return measure


def require_reference(checkpoint: Checkpoint) -> None:
    """Raises `DependencyError` where the reference would need peft, and there is none."""
    if checkpoint.adapters:
        from ..runtimes.torch_lora import require_peft

        require_peft()


def _compare(
    staging: Path, checkpoint: Checkpoint, runs: Sequence[Trajectory], report: Report
) -> Verification:
    from ..runtimes.registry import Engine
    from ..runtimes.verify import compare_bundle

    manifest = load_manifest(staging)
    engine = Engine.choose(manifest, staging)
    verification = compare_bundle(staging, manifest, checkpoint, runs, report, engine)
    return _accepted(verification, staging, "--precision fp32")


def verify_staging(
    staging: Path, checkpoint: Checkpoint, options: VerifyOptions, report: Report
) -> Verification:
    """Verifies a bundle that is being made; raises `ParityError` where a gate failed."""
    from ..runtimes.verify import verify_bundle

    verification = verify_bundle(staging, checkpoint, options, report)
    return _accepted(verification, staging, "--precision mixed or fp32")


def _accepted(verification: Verification, staging: Path, instead: str) -> Verification:
    """The verification, saved; raises `ParityError` where a gate failed."""
    require_parity(verification.record, "no bundle was written", instead)
    save_verification(verification, staging)
    return verification


def save_verification(verification: Verification, bundle: Path, output: Path | None = None) -> None:
    """Writes `parity.json` and `report.html`, and into the bundle what it says of itself.

    Args:
        verification: What was found.
        bundle: The bundle; its manifest carries the record, its card the figures.
        output: Another folder for the two files; the bundle is left as it is then.

    Raises:
        BundleError: Nothing can be written there.
    """
    from ..runtimes.report.page import write_report

    manifest, data = load_manifest(bundle), verification.record.to_json()
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    folder = bundle if output is None else output
    with whole_file(folder / PARITY_NAME, overwrite=True) as staging:
        staging.write_text(text + "\n", encoding="utf-8")
    shapes = replace(manifest.shapes, tested=verification.tested)
    manifest = replace(manifest, parity=data, shapes=shapes)
    name = bundle.absolute().name
    write_report(folder, name, manifest, verification.record, verification.pictures)
    if output is None:
        save_manifest(manifest, bundle)
        save_card(bundle)


def save_card(bundle: Path) -> None:
    """Writes the model card, which says what the manifest says and how to run the bundle."""
    from ..runtimes.report.card import write_card

    write_card(bundle, load_manifest(bundle))


def require_parity(
    record: ParityRecord, consequence: str, instead: str = "--precision mixed or fp32"
) -> None:
    """Raises `ParityError` naming the failed gates.

    Args:
        record: What was found.
        consequence: What follows from it, in words.
        instead: What to try in the place of float16.
    """
    failures = record.failures()
    if not failures:
        return
    precisions = {check.precision for check in record.components}
    advice = "Please report this model with its parity figures"
    if precisions & set(map(gated_as, FORMATS)):
        advice = "Try more bits per weight, or for fewer layers"
    elif "bf16" in precisions:
        advice = "Try --precision fp16 (for ONNX mixed), whose errors are eight times smaller"
    elif "fp16" in precisions:
        advice = f"Try {instead}"
    elif "mixed" in precisions:
        advice = "Try --precision fp32"
    raise ParityError(
        f"{len(failures)} parity gates failed, {consequence}: {'; '.join(failures[:3])}"
        f"{' …' if len(failures) > 3 else ''}. {advice}."
    )
