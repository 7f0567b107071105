"""`--quantize` for engines: what is known of it before the ranges of activations are measured."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from ..core.checkpoint import Checkpoint
from ..core.errors import CalibrationError, RecipeError
from ..core.folder import sha256_of
from ..core.tensorrt_options import TensorrtOptions
from .progress import Report
from .quantization import QuantizeRequest


def quantized_options(
    options: TensorrtOptions, request: QuantizeRequest, checkpoint: Checkpoint, report: Report
) -> TensorrtOptions:
    """The options with the quantization that was asked for.

    Args:
        options: How the engines are built.
        request: What was asked for.
        checkpoint: The pipeline.
        report: Told what is being done and how far it is.

    Raises:
        OptionError: A GPU lacks a format; no range was measured yet.
        KdexportError: See `QuantizeRequest.resolve`.
    """
    from ..export.tensorrt.formats import require_formats
    from ..export.tensorrt.targets import resolve_targets

    require_formats(request.formats(), resolve_targets(options))
    return replace(options, quantization=request.resolve(checkpoint, report, "signed"))


def request_key(request: QuantizeRequest) -> str:
    """SHA-256 of what was asked for: names, and the contents of files.

    Raises:
        RecipeError: The recipe is missing.
        CalibrationError: The calibration data is missing.
    """
    identity: dict[str, str | None] = {"what": request.what, "calibration": None}
    if not request.is_preset:
        identity["recipe"] = _hash(Path(request.what), "recipe", RecipeError)
    if request.calibration is not None:
        identity["calibration"] = _hash(request.calibration, "calibration data", CalibrationError)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _hash(file: Path, what: str, error: type[RecipeError] | type[CalibrationError]) -> str:
    if not file.is_file():
        raise error(f"There is no {what} '{file}'; name a file.")
    return sha256_of(file)
