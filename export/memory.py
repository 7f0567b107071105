"""The memory that programs may still take, containers' limits counted."""

from __future__ import annotations

import re
from pathlib import Path

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
