"""Makes compressed forms of a model, and their figures, for `kdexport quantize`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.checkpoint import Checkpoint
from ..core.coreml_options import CoremlOptions
from ..core.errors import OptionError, choices
from ..core.manifest import load_manifest
from ..core.options import PRECISIONS, OnnxOptions, VerifyOptions, require_choice
from ..core.quantization import Quantization
from ..core.tensorrt_options import TensorrtOptions
from .common import Report
from .exporting import (
    export_and_verify,
    export_coreml_and_verify,
    save_verification,
)
from .exporting_tensorrt import export_tensorrt_and_verify
from .quantization import QuantizeRequest
from .world import with_quality

if TYPE_CHECKING:
    from ..calib.figures import FormFigures

BACKENDS = ("onnx", "coreml", "tensorrt")
# The precision of what stays as it is, and how its numbers are stored, in bytes.
_PRECISION = {"onnx": "fp32", "coreml": "fp16", "tensorrt": "fp16"}
FLOAT_BYTES = {"onnx": 4, "coreml": 2, "tensorrt": 2}
FIGURES = "figures.json"


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


def form_named(name: str, backend: str, calibration: Path | None) -> Form:
    """A form by its precision, preset or recipe file.

    Raises:
        OptionError: The backend has no such precision.
    """
    if name in PRECISIONS:
        if backend == "coreml" and name not in ("fp32", "fp16"):
            raise OptionError(f"Core ML has no {name}; choose {choices(('fp32', 'fp16'))}.")
        return Form(name, name)
    request = QuantizeRequest(name, calibration)
    return Form(Path(name).stem, _PRECISION[backend], request)


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
    quantization = None
    if form.quantize is not None:
        signed = "signed" if target.backend == "tensorrt" else "unsigned"
        quantization = form.quantize.resolve(checkpoint, tell, signed)
    _export(form, quantization, checkpoint, target, bundle, overwrite, tell)
    exported = time.perf_counter()
    verification = verify_bundle(bundle, checkpoint, target.verify, tell)
    if target.captions:
        verification, _ = with_quality(verification, bundle, checkpoint, target.captions, tell)
    save_verification(verification, bundle)
    seconds = {"export": exported - start, "verify": time.perf_counter() - exported}
    return figures_of(form.name, bundle, load_manifest(bundle), verification.record, seconds)


def _export(
    form: Form,
    quantization: Quantization | None,
    checkpoint: Checkpoint,
    target: Target,
    bundle: Path,
    overwrite: bool,
    report: Report,
) -> None:
    """Makes the bundle; it is compared afterwards, so that its figures are known in any case."""
    if target.backend == "onnx":
        onnx = OnnxOptions(precision=form.precision, quantization=quantization)
        export_and_verify(checkpoint, onnx, bundle, None, overwrite, report)
    elif target.backend == "coreml":
        size = (target.verify.height, target.verify.width)
        coreml = CoremlOptions(
            precision=form.precision,
            target=target.system,
            sizes=() if size[0] is None or size[1] is None else ((size[0], size[1]),),
            chunk=target.chunk,
            quantization=quantization,
        )
        export_coreml_and_verify(checkpoint, coreml, bundle, target.verify, True, overwrite, report)
    else:
        tensorrt = TensorrtOptions(
            gpus=(target.gpu,), precision=form.precision, quantization=quantization
        )
        export_tensorrt_and_verify(checkpoint, tensorrt, bundle, None, overwrite, report)


def add_figures(folder: Path, model: str, made: Sequence[FormFigures]) -> list[FormFigures]:
    """Adds figures to those that a folder has, and draws all of them."""
    from ..calib.figures import read_figures, save_figures
    from ..calib.plot import plot_figures

    names = {each.bundle for each in made}
    standing = [each for each in read_figures(folder / FIGURES) if each.bundle not in names]
    figures = [*standing, *made]
    save_figures(figures, folder / FIGURES)
    plot_figures(model, figures, folder / "figures.png")
    return figures
