"""Which processor this is: what is laid out for one may be wrong, or slow, on another."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

_LINUX = Path("/proc/cpuinfo")
# What the kernel calls a processor and what that can do, on x86, Arm, POWER and RISC-V; other lines
# are of the moment, such as the clock.
_KEYS = frozenset(
    {
        *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
        *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
        *("cpu", "revision", "isa", "uarch"),
    }
)
_MAC = ("/usr/sbin/sysctl", "machdep.cpu", "hw.optional")


def processor() -> str | None:
    """A text that tells this processor from those that other instructions suit.

    None where the system does not say.
    """
    if sys.platform == "linux":
        said = _linux()
    elif sys.platform == "darwin":
        said = _mac()
    else:
        # Windows: family, model and stepping.
        said = platform.processor()
    return f"{platform.machine()}\n{said}" if said else None


def _linux() -> str:
    try:
        lines = _LINUX.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    # Cores may differ; what there is of them counts, not how many.
    return "\n".join(sorted({each for each in lines if each.partition(":")[0].strip() in _KEYS}))


def _mac() -> str:
    try:
        done = subprocess.run(_MAC, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
