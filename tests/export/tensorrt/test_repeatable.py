"""The same bytes from the same request."""

import ctypes
import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import onnx
import pytest
from kdexport.export.tensorrt import repeatable
from kdexport.export.tensorrt.graph import read_graph
from kdexport.export.tensorrt.process import run_build
from kdexport.export.tensorrt.repeatable import make_repeatable

FIXED = 0x0040000


def addresses_can_be_fixed():
    """Whether the system lets a process fix its addresses: Docker's default profile does not."""
    if not sys.platform.startswith("linux"):
        return False
    code = "import ctypes; print(ctypes.CDLL(None).personality(ctypes.c_ulong(0x0040000)))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).stdout != b"-1\n"


def threads_can_take_turns():
    """Whether a process may keep a processor to itself, which takes root and a second one."""
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        return False
    code = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.skipif(not addresses_can_be_fixed(), reason="the system forbids fixing addresses")
def test_a_process_that_starts_again():
    code = (
        "import ctypes, os\n"
        "from kdexport.export.tensorrt.repeatable import make_repeatable\n"
        "make_repeatable()\n"
        "print(ctypes.CDLL(None).personality(0xFFFFFFFF), len(os.sched_getaffinity(0)),"
        " os.sched_getscheduler(0) in (os.SCHED_BATCH, os.SCHED_FIFO))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    personality, processors, queued = ended.stdout.split()
    assert int(personality) & FIXED
    assert (processors, queued) == ("1", "True")


@pytest.mark.parametrize(
    ("present", "allowed", "again"),
    [(0, True, True), (0, False, False), (FIXED, True, False), (-1, True, False)],
)
def test_when_it_starts_again(monkeypatch, present, allowed, again):
    class Libc:
        def __init__(self):
            self.asked = []

        @property
        def personality(self):
            return self

        def __call__(self, wanted):
            self.asked.append(wanted)
            if wanted == 0xFFFFFFFF:
                return present
            return 0 if allowed else -1

        def sched_getcpu(self):
            return 0

    libc, started = Libc(), []
    monkeypatch.setattr(repeatable.ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(repeatable.os, "execv", lambda *call: started.append(call))
    monkeypatch.setattr(repeatable.sys, "platform", "linux")
    # Which a system may forbid as well.
    monkeypatch.setattr(repeatable.os, "sched_setaffinity", refuse, raising=False)
    make_repeatable()
    assert libc.argtypes == [ctypes.c_ulong]
    assert bool(started) is again
    if again:
        assert started == [(sys.executable, sys.orig_argv)]
        assert libc.asked[-1] == FIXED


def refuse(*call):
    raise OSError(1, "Operation not permitted")


def test_other_systems(monkeypatch):
    monkeypatch.setattr(repeatable.sys, "platform", "win32")
    monkeypatch.setattr(repeatable.ctypes, "CDLL", refuse)
    make_repeatable()


def build_twice(unet, folder, monkeypatch):
    """Digests of two builds of one U-Net from different places."""
    digests = set()
    for number, name in enumerate(("one", "another-and-longer")):
        # As in the cache, where all names are as long.
        output = folder / f"engine{number}"
        (folder / name).mkdir()
        # Nothing of the caller's environment and folder moves the addresses of the build.
        monkeypatch.setenv("KDEXPORT_TEST", "x" * 1000 * number)
        monkeypatch.chdir(folder / name)
        run_build(unet(folder / name), output, lambda share: None)
        digests.add(hashlib.sha256(output.read_bytes()).hexdigest())
    return digests


def test_two_builds_of_a_fixed_unet(dynamic_unet, tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx")

    def fixed(folder):
        request = dynamic_unet(folder)
        model = onnx.load(request.onnx, load_external_data=False)
        values = {"batch": 2, "height": 16, "width": 16}
        for port in (*model.graph.input, *model.graph.output):
            for size in port.type.tensor_type.shape.dim:
                if size.dim_param:
                    size.dim_value = values[size.dim_param]
        # Sizes inside, which follow from those.
        del model.graph.value_info[:]
        onnx.save(model, request.onnx)
        graph = read_graph(request.onnx)
        return replace(request, ranges={name: (each,) * 3 for name, each in graph.inputs.items()})

    assert len(build_twice(fixed, tmp_path, monkeypatch)) == 1


@pytest.mark.skipif(not addresses_can_be_fixed(), reason="the system forbids fixing addresses")
@pytest.mark.skipif(not threads_can_take_turns(), reason="the system forbids real-time scheduling")
def test_two_builds_of_a_dynamic_unet(dynamic_unet, tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx")
    assert len(build_twice(dynamic_unet, tmp_path, monkeypatch)) == 1
