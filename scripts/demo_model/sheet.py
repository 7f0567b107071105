"""Sheets of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from kdexport.runtimes.image import to_uint8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def save_sheet(rows: list[Tensor], path: Path) -> None:
    """Writes rows of pictures, each `(n, 3, height, width)` from -1 to 1, as one PNG."""
    pictures = [to_uint8(row.float().cpu().numpy()) for row in rows]
    save_pictures(np.concatenate(pictures), path, columns=len(rows[0]))


def save_pictures(pictures: NDArray[np.uint8], path: Path, columns: int = 8) -> None:
    """Writes 8-bit pictures `(n, height, width, 3)` as one PNG, row after row."""
    rows = [
        np.concatenate(list(pictures[start : start + columns]), axis=1)
        for start in range(0, len(pictures), columns)
    ]
    Image.fromarray(np.concatenate(rows)).save(path)
