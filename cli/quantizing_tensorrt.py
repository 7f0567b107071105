"""`--quantize` for engines: what is known of it before the ranges of activations are measured."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from ..core.checkpoint import Checkpoint
from ..core.errors import CalibrationError, RecipeError
from ..core.folder import sha256_of
from ..core.formats import FORMATS, Format
from ..core.recipe import read_recipe
from ..core.tensorrt_options import TensorrtOptions
from .common import Report
from .quantization import QuantizeRequest

# The formats of presets that are not called after one.
_PRESETS = {"hybrid": ("int8", "int8-static")}


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

    require_formats(asked_formats(request), resolve_targets(options))
    return replace(options, quantization=request.resolve(checkpoint, report, "signed"))


def asked_formats(request: QuantizeRequest) -> tuple[Format, ...]:
    """The formats that a request names; none where there is no such preset.

    Raises:
        RecipeError: The recipe cannot be read.
    """
    names: set[str | None] = set(_PRESETS.get(request.what, (request.what,)))
    if Path(request.what).suffix:
        rules = read_recipe(Path(request.what)).components.values()
        names = {name for each in rules for name in (*each.layers.values(), each.default)}
    return tuple(form for name, form in FORMATS.items() if name in names)


def request_key(request: QuantizeRequest) -> str:
    """SHA-256 of what was asked for: names, and the contents of files.

    Raises:
        RecipeError: The recipe is missing.
        CalibrationError: The calibration data is missing.
    """
    identity: dict[str, str | None] = {"what": request.what, "calibration": None}
    if Path(request.what).suffix:
        identity["recipe"] = _hash(Path(request.what), "recipe", RecipeError)
    if request.calibration is not None:
        identity["calibration"] = _hash(request.calibration, "calibration data", CalibrationError)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _hash(file: Path, what: str, error: type[RecipeError] | type[CalibrationError]) -> str:
    if not file.is_file():
        raise error(f"There is no {what} '{file}'; name a file.")
    return sha256_of(file)
