"""Makes compressed forms of a model, and their figures, for `kdexport quantize`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.checkpoint import Checkpoint
from ..core.coreml_formats import require_formats, with_text_encoders
from ..core.coreml_options import COREML_TARGETS, CoremlOptions
from ..core.errors import CalibrationError, OptionError, RecipeError, choices
from ..core.folder import whole_folder
from ..core.manifest import load_manifest
from ..core.options import PRECISIONS, OnnxOptions, VerifyOptions, require_choice
from ..core.tensorrt_options import TensorrtOptions
from .exporting import (
    export_and_verify,
    export_coreml_and_verify,
    save_verification,
)
from .exporting_tensorrt import export_tensorrt_and_verify
from .progress import Report
from .quantization import QuantizeRequest
from .world import with_quality

if TYPE_CHECKING:
    from ..calib.figures import FormFigures, Sweep

BACKENDS = ("onnx", "coreml", "tensorrt")
# What models are exported as without compression; the first is that of what stays as it is.
_PRECISIONS = {
    "onnx": ("fp32", "fp16", "mixed", "bf16"),
    "coreml": ("fp16", "fp32"),
    "tensorrt": ("fp16", "bf16", "fp32"),
}
# Bytes of its numbers.
FLOAT_BYTES = {"onnx": 4, "coreml": 2, "tensorrt": 2}
FIGURES, PICTURE, PAGE = "figures.json", "figures.png", "figures.html"


@dataclass(frozen=True)
class Form:
    """One way to store a model.

    Attributes:
        name: What it is called: a precision, a preset, or a recipe.
        precision: Of what is not compressed.
        quantize: The preset or recipe file; None where the precision is all.
    """

    name: str
    precision: str
    quantize: QuantizeRequest | None = None


@dataclass(frozen=True)
class Target:
    """What the forms are made for.

    Attributes:
        backend: One of `BACKENDS`.
        system: Oldest system of Core ML packages.
        gpu: What TensorRT's engines are for.
        chunk: Split the U-Net of Core ML packages in two.
        verify: What they are compared on.
        captions: Held-out captions that are scored.
    """

    backend: str
    system: str
    gpu: str
    chunk: bool
    verify: VerifyOptions
    captions: int

    def __post_init__(self) -> None:
        require_choice(self.backend, BACKENDS, "backend")
        if self.chunk and self.backend != "coreml":
            raise OptionError("Chunks are of Core ML packages; leave --chunk out.")
        if self.backend == "coreml":
            require_choice(self.system, COREML_TARGETS, "deployment target")

    def require(self, form: Form) -> None:
        """Raises where the backend lacks a format of a form; see `require_formats` of each."""
        formats = form.quantize.formats() if form.quantize else ()
        if self.backend == "coreml":
            require_formats(formats, self.system)
        for each in formats:
            if self.backend != "coreml" and each.kind == "palette":
                raise RecipeError(
                    f"ONNX has no palettes, so {self.backend} has no {each.name}; choose int8 or "
                    "int4, or --backend coreml."
                )
        if self.backend == "tensorrt":
            from ..export.tensorrt.formats import require_formats as require_on_gpus
            from ..export.tensorrt.targets import resolve_targets

            require_on_gpus(formats, resolve_targets(TensorrtOptions(gpus=(self.gpu,))))


def form_named(name: str, backend: str, calibration: Path | None, called: str = "") -> Form:
    """A form by its precision, preset or recipe file, checked against the backend.

    Args:
        name: What the user said.
        backend: One of `BACKENDS`.
        calibration: Calibration data, or None.
        called: What the form is called; where empty, after the preset or file.

    Raises:
        OptionError: There is no such form, or the backend has not.
        RecipeError: The recipe cannot be read, or the backend lacks one of its formats.
        CalibrationError: A format needs calibration data, and there is none.
    """
    if name in PRECISIONS:
        if name not in _PRECISIONS[backend]:
            raise OptionError(f"{backend} has no {name}; choose {choices(_PRECISIONS[backend])}.")
        return Form(name, name)
    request = QuantizeRequest(name, calibration)
    formats = request.formats()
    if calibration is None and any(form.activations == "static" for form in formats):
        raise CalibrationError(
            f"{name} quantizes activations, whose ranges come from calibration data: make it with "
            "`kdexport calibrate`, and give it with --calibration."
        )
    return Form(called or Path(name).stem, _PRECISIONS[backend][0], request)


def make_form(
    form: Form,
    checkpoint: Checkpoint,
    target: Target,
    folder: Path,
    overwrite: bool,
    report: Report,
) -> FormFigures:
    """Exports a form, compares it with diffusers, and scores it where that means anything.

    A missed gate is a figure, not an error: the bundle stays, and says so.

    Args:
        form: What to make.
        checkpoint: The pipeline.
        target: What it is for.
        folder: Where the bundle is made.
        overwrite: Replace an existing bundle.
        report: Told what is being done and how far it is.

    Raises:
        KdexportError: The form cannot be exported or run; no bundle of it is left.
    """
    from ..calib.figures import figures_of
    from ..runtimes.verify import verify_bundle

    def tell(what: str, share: float) -> None:
        report(f"{form.name}: {what}", share)

    bundle = folder / f"{target.backend}-{form.name}"
    start = time.perf_counter()
    with whole_folder(bundle, overwrite=overwrite) as staging:
        _export(form, checkpoint, target, staging, tell)
        exported = time.perf_counter()
        verification = verify_bundle(staging, checkpoint, target.verify, tell)
        if target.captions:
            used = verification.record.runtime
            verification, _ = with_quality(
                verification,
                staging,
                checkpoint,
                target.captions,
                tell,
                runtime=used["engine"],
                provider=used["provider"],
            )
        save_verification(verification, staging)
    seconds = {"export": exported - start, "verify": time.perf_counter() - exported}
    return figures_of(form.name, bundle, load_manifest(bundle), verification.record, seconds)


def _export(
    form: Form, checkpoint: Checkpoint, target: Target, bundle: Path, report: Report
) -> None:
    """Makes the bundle in place of an empty folder; it is compared afterwards.

    So its figures are known in any case, whether it passes its gates or not.
    """
    quantization = None
    if form.quantize is not None:
        signed = "signed" if target.backend == "tensorrt" else "unsigned"
        quantization = form.quantize.resolve(checkpoint, report, signed)
        if target.backend == "coreml":
            quantization = with_text_encoders(quantization, checkpoint.text_encoders)
    if target.backend == "onnx":
        onnx = OnnxOptions(precision=form.precision, quantization=quantization)
        export_and_verify(checkpoint, onnx, bundle, None, True, report)
    elif target.backend == "coreml":
        size = (target.verify.height, target.verify.width)
        coreml = CoremlOptions(
            precision=form.precision,
            target=target.system,
            sizes=() if size[0] is None or size[1] is None else ((size[0], size[1]),),
            chunk=target.chunk,
            quantization=quantization,
        )
        export_coreml_and_verify(checkpoint, coreml, bundle, target.verify, True, True, report)
    else:
        sides = {"height": target.verify.height, "width": target.verify.width}
        tensorrt = TensorrtOptions(
            gpus=(target.gpu,),
            precision=form.precision,
            profile=tuple(f"{name}={size}" for name, size in sides.items() if size is not None),
            quantization=quantization,
        )
        export_tensorrt_and_verify(checkpoint, tensorrt, bundle, None, True, report)


def save_figures(folder: Path, sweep: Sweep) -> None:
    """Writes the figures of a sweep, as data, as a plot, and as a page."""
    from ..calib.figures import save_sweep
    from ..calib.plot import plot_figures
    from ..calib.sweep_page import write_sweep_page

    save_sweep(sweep, folder / FIGURES)
    plot_figures(sweep.model, sweep.forms, folder / PICTURE)
    write_sweep_page(sweep, folder / PICTURE, folder / PAGE)
