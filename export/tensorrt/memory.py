"""The memory that a build takes, and whether this machine has it."""

from __future__ import annotations

import re
from pathlib import Path

from ...core.errors import ExportError

# Peak resident memory of TensorRT for RTX 1.7, float16 U-Nets of one latent size: 965 MB of ONNX
# take 3.5 GB and 1570 MB take 5.3 GB, which is a line through three times the file; a U-Net of
# 8 MB with dynamic sizes takes 0.6 GB.
_TIMES = 3.0
_BASE = 700 << 20

_MEMINFO = Path("/proc/meminfo")
# The limit of a container and what it uses, of control groups version 2 and 1.
_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def memory_needed(onnx_bytes: int) -> int:
    """Estimate of the peak resident memory of a build in bytes, of an ONNX file and its weights."""
    return int(_TIMES * onnx_bytes) + _BASE


def require_memory(onnx_bytes: int, role: str) -> None:
    """Raises `ExportError` where this machine has less free memory than a build needs.

    Args:
        onnx_bytes: Size of the ONNX file and its weights.
        role: Its component.
    """
    needed, free = memory_needed(onnx_bytes), free_memory()
    if free is not None and free < needed:
        raise ExportError(
            f"Building the engine of '{role}' needs about {needed / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free; close other programs, or build on a larger machine."
        )


def free_memory(root: Path = Path("/")) -> int | None:
    """Memory in bytes that programs may still take, or None on systems that do not say.

    Args:
        root: Where the file system that tells begins.
    """
    meminfo = root / _MEMINFO.relative_to("/")
    if not meminfo.is_file():
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="ascii"), re.M)
    if found is None:
        return None
    return min([int(found[1]) << 10, *_left_in_container(root)])


def _left_in_container(root: Path) -> list[int]:
    """What the limit of a container leaves, where there is one."""
    for maximum, current, cache in _LIMITS:
        limit, used = (root / path.lstrip("/") for path in (maximum, current))
        if not (limit.is_file() and used.is_file()):
            continue
        text = limit.read_text(encoding="ascii").strip()
        if text.isdecimal():
            stat = (limit.parent / "memory.stat").read_text(encoding="ascii")
            # Pages of files count as used, and are given up when they are needed.
            given_up = re.search(rf"^{cache} (\d+)$", stat, re.M)
            freed = int(given_up[1]) if given_up else 0
            return [int(text) - int(used.read_text(encoding="ascii")) + freed]
    return []
