"""What an engine is: all that determines it, in one number."""

from __future__ import annotations

import hashlib
import json

from .request import EngineRequest

# Raised when the way of building changes, so that engines of earlier ways are not used again.
RECIPE = 2


def engine_key(request: EngineRequest, tensorrt_version: str) -> str:
    """SHA-256 of all that determines an engine: ONNX files, kind, target, profile, settings.

    Args:
        request: The engine.
        tensorrt_version: Version of the library that builds it.

    Returns:
        Lower-case hexadecimal digits.

    Raises:
        ExportError: See `read_graph`.
    """
    digests = dict(request.digests)
    identity = {
        "recipe": RECIPE,
        # Not its name: a copy under another name gives the same engine.
        "onnx": digests.pop(request.onnx.name),
        "weights": digests,
        "kind": request.kind,
        "target": request.target,
        "device": request.device,
        "tensorrt": tensorrt_version,
        "profile": {name: list(map(list, shapes)) for name, shapes in request.ranges.items()},
        "settings": request.settings.to_json(),
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
