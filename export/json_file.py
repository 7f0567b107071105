"""JSON files of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Reads a JSON object; raises `CheckpointError` where the folder of `path` is not `what`."""
    if not path.is_file():
        raise CheckpointError(
            f"'{path.parent}' is not {what}: it has no {path.name}; name a folder that has it, or "
            "download it again."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"'{path}' is not valid JSON ({error}); mend it, or download it again."
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError(
            f"'{path}' is not a JSON object, so it is not {what}; download it again."
        )
    return data
