"""How reference values are stored: JSON, and beside it one file of raw numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_json(path: Path, data: Any) -> None:
    """Writes JSON that every reader agrees on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


class Pool:
    """Arrays one after the other in a file, little-endian; JSON refers to them by place."""

    def __init__(self, kind: str) -> None:
        """`kind` is NumPy's name of the numbers: `<f4` or `u1`."""
        self._kind = kind
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, array: NDArray[Any]) -> dict[str, Any]:
        """Keeps an array; returns its shape and the number of its first element."""
        stored = np.ascontiguousarray(array, np.dtype(self._kind))
        first = self._size
        self._parts.append(stored.tobytes())
        self._size += stored.size
        return {"shape": list(array.shape), "first": first}

    def write(self, path: Path) -> None:
        """Writes the file."""
        path.write_bytes(b"".join(self._parts))
