"""What of this machine a plan depends on, measured in a moment."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import torch

from ..memory import free_memory
from .types import Machine

# 1 GMAC at a time: large enough for every core, a hundredth of a second each.
_SIDE, _REPEATS = 1024, 15


def this_machine(folder: Path) -> Machine:
    """Measures this machine.

    Args:
        folder: Where bundles would be made.
    """
    return Machine(_multiply_rate(), free_memory(), shutil.disk_usage(folder).free)


def _multiply_rate() -> float:
    """Multiply-accumulates per second of torch's float32 matrix product, which diffusers uses."""
    ours, theirs = (torch.randn(_SIDE, _SIDE) for _ in range(2))
    taken = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        torch.matmul(ours, theirs)
        taken.append(time.perf_counter() - start)
    # The fastest: what else runs at this moment may have ended when the export begins.
    return _SIDE**3 / min(taken)
