"""Sessions of ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from .onnx_operators import only_weights_are_integers
from .ort_cache import SAVING, cached_session
from .ort_options import OrtOptions
from .ort_session import onnxruntime_package, session_entries, session_options
from .widened import session_source

# Weights of few bits become floats when the model is opened, not in every run: at 256 by 256 the
# U-Net of BK-SDM-Small is 1.6 times as fast in int8, 1.7 times in int4, for 2.7 GB more at most.
_FOLDED = {"session.disable_quant_qdq": "1"}


def cpu_session(model: Path, options: OrtOptions) -> Any:
    """Makes a session; raises what ONNX Runtime and `session_source` raise.

    Args:
        model: The `.onnx` file.
        options: How it is run; the provider is not looked at.
    """
    folded = not options.low_memory and only_weights_are_integers(model)
    chosen = _FOLDED if folded else {}

    def new(further: Mapping[str, str]) -> Any:
        made = session_options(model, options.threads, {**chosen, **further})
        # A plan for one set of shapes, beside the arena: it makes nothing faster, and takes 0.75 GB
        # for the U-Net of BK-SDM-Small at 512 by 512. Without the arena it is 1.1 times slower.
        made.enable_mem_pattern = False
        return made

    settings = new({})
    source = session_source(model, settings)
    if not options.cached:
        return _session(source, settings)

    def save(path: Path) -> None:
        saving = new(SAVING)
        saving.optimized_model_filepath = str(path)
        # The session is let go: all programs run what is kept, this one too.
        _session(session_source(model, saving), saving)

    def start(path: Path) -> Any:
        return _session(str(path), new({}))

    graph = sha256(source).hexdigest() if isinstance(source, bytes) else None
    session = cached_session(model, [session_entries(model, chosen), graph], save, start)
    return _session(source, settings) if session is None else session


def _session(source: str | bytes, settings: Any) -> Any:
    return onnxruntime_package().InferenceSession(
        source, settings, providers=["CPUExecutionProvider"], enable_fallback=0
    )
