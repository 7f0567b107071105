"""How many threads ONNX Runtime may have where a program has less than the machine.

Left alone it takes one for every physical core, whatever the program may use of them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def granted_threads() -> int | None:
    """Threads for the processors that this program is granted, one for each physical core.

    None where it is granted all of them, and where the system does not say: ONNX Runtime then
    counts and pins them itself. What limits it is an affinity mask, such as `taskset` and cpusets
    set, or the quota of a container, rounded up.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = _physical(range(os.cpu_count() or 1))
    granted = _physical(os.sched_getaffinity(0))
    quotas = [math.ceil(each) for each in _quotas()]
    fewest = max(1, min([granted, *quotas]))
    return fewest if fewest < cores else None


def _physical(cpus: Iterable[int]) -> int:
    """The number of physical cores that some logical ones are of."""
    return len({_siblings(cpu) for cpu in cpus})


def _siblings(cpu: int) -> str:
    try:
        return (_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text("ascii")
    except OSError:
        return str(cpu)


def _quotas() -> Iterator[float]:
    """Processors that the control groups around this program grant it, of each that limits it."""
    for folder in _folders():
        # A file that is not there, or says "max" or -1, limits nothing.
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (folder / "cpu.max").read_text("ascii").split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (
                (folder / f"cpu.cfs_{each}_us").read_text("ascii") for each in ("quota", "period")
            )
            if int(quota) > 0:
                yield int(quota) / int(period)


def _folders() -> Iterator[Path]:
    """The control groups of this program and those around them; in a container its root is ours."""
    with suppress(OSError):
        for line in _OWN_CGROUPS.read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            root = _CGROUPS / controllers if controllers else _CGROUPS
            own = root / path.lstrip("/")
            yield from (each for each in (own, *own.parents) if each.is_relative_to(root))
