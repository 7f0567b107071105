"""SHA-256 of byte strings around the sizes of its blocks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from .files import write_json

SIZES = (*range(130), 183, 184, 191, 192, 1000, 4095, 4096, 65537, 1000003)


def write_hashes(out: Path) -> int:
    """Writes `hashes.json` and the bytes, of which each hash is of the first; returns how many."""
    data = np.random.RandomState(6).bytes(max(SIZES))
    (out / "hashes.u8").write_bytes(data)
    cases = [{"size": size, "sha256": hashlib.sha256(data[:size]).hexdigest()} for size in SIZES]
    write_json(out / "hashes.json", cases)
    return len(cases)
