"""What OpenVINO says, in one sentence: its own texts begin with where it noticed."""

from __future__ import annotations

import re
from pathlib import Path

from ..core.errors import BundleError, KdexportError, RunError, listing

# What lists operators: OpenVINO 2026.4, twice, and 2026.0.
_OPERATORS = re.compile(
    r"(?:No conversion rule found for operations:|Conversion is failed for:|"
    r"does not support the following ONNX operations:)(.+)"
)
# Numbers of opsets, `Scan-18`.
_OPSET = re.compile(r"-\d+$")
# Where an error was noticed, or passed on, not what it is.
_PLACES = ("Exception from ", "Check '", "FrontEnd API failed", "While validating ")
# Operators that other ways of exporting attention do without.
_ATTENTION = {"Attention", "MultiHeadAttention", "Scan"}


def unreadable(model: Path, error: Exception) -> KdexportError:
    """The error of a model that OpenVINO cannot read, to be raised."""
    operators = unknown_operators(str(error))
    if not operators:
        return RunError(f"OpenVINO cannot open '{model}' ({cause(error)}).")
    advice = "choose the runtime 'onnxruntime'"
    if _ATTENTION.issuperset(name.rpartition(".")[2] for name in operators):
        advice = f"export with --attention portable, or {advice}"
    return BundleError(
        f"OpenVINO does not read {listing(operators)} of '{model}' as the file has it; {advice}."
    )


def unknown_operators(text: str) -> list[str]:
    """The operators that a text names as the ones that were not read."""
    names = [name.strip() for found in _OPERATORS.findall(text) for name in found.split(",")]
    return sorted({_OPSET.sub("", name) for name in names if name})


def cause(error: Exception) -> str:
    """The first line of an error that says what it is; its first one where none does."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_PLACES)]
    found = (telling or lines or [type(error).__name__])[0]
    return found.rstrip(".:")[:300]
