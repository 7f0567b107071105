"""How every session of ONNX Runtime is set up, whatever it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from ..core.errors import DependencyError
from .ort_providers import LOG_ERRORS
from .ort_threads import granted_threads
from .widened import holds

# By the names of onnxruntime_session_options_config_keys.h:
_ENTRIES = {
    # Linear layers whose weights are integers would also have their inputs rounded to eight bits,
    # in blocks, where nothing is said (4); weights only are weights only (1: float32).
    "session.qdq_matmulnbits_accuracy_level": "1",
    # Without VNNI, products of unsigned and signed integers saturate at 16 bits; this makes the
    # weights unsigned on such CPUs, so that a bundle gives the same numbers on all.
    "session.x64quantprecision": "1",
}
# ONNX Runtime 1.31 makes integer products of float8 ones, which it then refuses.
_FLOAT8_ENTRIES = {"session.disable_quant_qdq": "1"}
# TensorProto.FLOAT8E4M3FN
_FLOAT8 = 17


def session_entries(model: Path, further: Mapping[str, str]) -> dict[str, str]:
    """Entries of the options of every session of a model, and further ones, which count more."""
    own = _FLOAT8_ENTRIES if holds(model, _FLOAT8) else {}
    return {**_ENTRIES, **own, **further}


def session_options(
    model: Path, threads: int | None, further: Mapping[str, str] = MappingProxyType({})
) -> Any:
    """New `SessionOptions`.

    Args:
        model: The `.onnx` file.
        threads: Threads inside an operator; None takes every physical core that the program is
            granted.
        further: Entries by ONNX Runtime's names, beside those of every session.
    """
    options = onnxruntime_package().SessionOptions()
    options.log_severity_level = LOG_ERRORS
    granted = granted_threads() if threads is None else threads
    if granted is not None:
        options.intra_op_num_threads = granted
    for name, value in session_entries(model, further).items():
        options.add_session_config_entry(name, value)
    return options


def onnxruntime_package() -> ModuleType:
    """The package onnxruntime; raises `DependencyError` where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError(
            "Running ONNX models needs onnxruntime; install it with `pip install kdexport[cpu]`, "
            "or `kdexport[gpu]` for NVIDIA GPUs."
        ) from error
    return onnxruntime  # type: ignore[no-any-return]
