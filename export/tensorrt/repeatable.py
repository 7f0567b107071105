"""What makes TensorRT for RTX give the same bytes again.

Version 1.7 orders some things by their addresses in memory, the parts of shape calculations above
all, so that engines with dynamic dimensions differ in a few hundred bytes from build to build. A
process of its own, memory at fixed addresses, one heap for all threads (`MALLOC_ARENA_MAX`, which
`process.py` sets) and threads that take turns on one processor without interrupting each other
make the addresses the same. The compiler does nearly all in one thread, so that this costs no time.

Only real-time scheduling keeps threads from interrupting each other, which takes root or
CAP_SYS_NICE; Docker's default profile does not let processes fix their addresses. A system that
forbids one of these gives an engine that is as good, but may not be the same twice: a large U-Net
of an ordinary user differs in a few hundred bytes, names of values above all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

# Of Linux' <sys/personality.h>: do not place memory at random addresses; and the present state.
_ADDR_NO_RANDOMIZE = 0x0040000
_PRESENT = 0xFFFFFFFF
# Of <sys/mman.h>: keep what is in memory, and what will be.
_MCL_CURRENT, _MCL_FUTURE = 1, 2


def make_repeatable() -> None:
    """Prepares this process, which may mean to start it again; does nothing but on Linux."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    _fix_addresses(libc)
    # Another processor stays for everybody else.
    alone = len(os.sched_getaffinity(0)) == 1
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {libc.sched_getcpu()})
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        if not alone:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            _keep_in_memory(libc)


def _keep_in_memory(libc: ctypes.CDLL) -> None:
    """Lets no thread wait for the disk, which would give others their turn, unless that is limited.

    A limit would end the process where it is reached.
    """
    import resource

    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY or not os.geteuid():
        # Fails as a whole for a root without the right to.
        libc.mlockall(_MCL_CURRENT | _MCL_FUTURE)


def _fix_addresses(libc: ctypes.CDLL) -> None:
    """Starts this process again without random addresses, unless it has none."""
    libc.personality.argtypes = [ctypes.c_ulong]
    present = libc.personality(_PRESENT)
    if present == -1 or present & _ADDR_NO_RANDOMIZE:
        return
    if libc.personality(present | _ADDR_NO_RANDOMIZE) != -1:
        os.execv(sys.executable, sys.orig_argv)
