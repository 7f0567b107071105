"""A stand-in for CUDA's Python bindings on the memory of the host.

It has the functions that the runtime calls, with the same arguments and results, and is as strict
as a device: what is asked for happens at the next wait and no sooner, memory begins as NaN, every
access must lie inside one allocation, and nothing may be freed twice or used afterwards.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np

ALIGNMENT = 256
POISON = 0xFF


class Code(int):
    """An error code with CUDA's name."""

    def __new__(cls, value, name):
        code = super().__new__(cls, value)
        code.name = name
        return code


SUCCESS = Code(0, "cudaSuccess")
INVALID = Code(1, "cudaErrorInvalidValue")
CAPTURING = Code(900, "cudaErrorStreamCaptureUnsupported")


class FakeCuda:
    """One driver with a GPU.

    Attributes:
        fail: By function, the code that it gives from now on instead of doing anything.
        calls: The names of the functions called, in order.
        live: What was made and not freed: handles by kind.
        queue: Work that was asked for and not done yet.
    """

    def __init__(self, *, capability=(8, 9), gpus=1, driver=12080, archs=(75, 80, 86, 89, 90)):
        self.capability, self.gpus, self.driver_version = capability, gpus, driver
        self.archs = archs
        self.fail, self.calls, self.queue, self.events = {}, [], [], {}
        self.live = {kind: {} for kind in ("device", "host", "stream", "event", "graph", "exec")}
        self.live |= {"module": {}, "program": {}}
        self.recording = None
        self.current = None
        self.handles = 100
        self.downloads = []
        self.runtime = self._runtime()
        self.driver = self._module(["cuModuleLoadData", "cuModuleGetFunction", "cuModuleUnload"])
        self.driver.cuLaunchKernel = self._wrapped("cuLaunchKernel")
        names = [
            "Version",
            "GetSupportedArchs",
            "CreateProgram",
            "CompileProgram",
            "DestroyProgram",
        ]
        names += ["GetCUBINSize", "GetCUBIN", "GetProgramLogSize", "GetProgramLog"]
        self.nvrtc = self._module([f"nvrtc{name}" for name in names])

    def install(self, monkeypatch):
        """Makes `import cuda.bindings.…` give this."""
        import sys

        for name in ("runtime", "driver", "nvrtc"):
            monkeypatch.setitem(sys.modules, f"cuda.bindings.{name}", getattr(self, name))

    def left(self):
        """What was never freed, by kind."""
        return {kind: len(held) for kind, held in self.live.items() if held}

    def view(self, address, dtype, shape):
        """An array over device memory; the whole of it must lie in one allocation."""
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        self.require_span(address, count * dtype.itemsize)
        memory = (ctypes.c_char * max(count * dtype.itemsize, 1)).from_address(address)
        return np.frombuffer(memory, dtype, count).reshape(shape)

    def require_span(self, address, nbytes, kinds=("device",)):
        spans = [span for kind in kinds for span in self.live[kind].values()]
        inside = any(
            start <= address and address + nbytes <= start + size for start, size, _ in spans
        )
        assert inside, f"{nbytes} bytes at {address} are not inside one allocation"

    def require_stream(self, stream):
        """What runs on a stream must be asked for on its GPU."""
        assert self.live["stream"][stream] == self.current

    def ask(self, work):
        """Puts work into the queue, or into the graph that is being captured."""
        (self.queue if self.recording is None else self.recording).append(work)

    def flush(self):
        while self.queue:
            self.queue.pop(0)()

    def _runtime(self):
        names = """
            cudaDriverGetVersion cudaGetDeviceCount cudaGetDeviceProperties cudaSetDevice cudaMalloc
            cudaFree cudaMallocHost cudaFreeHost cudaMemcpyAsync cudaMemsetAsync
            cudaStreamCreateWithFlags cudaStreamDestroy cudaStreamSynchronize cudaStreamBeginCapture
            cudaStreamEndCapture cudaGraphInstantiate cudaGraphDestroy cudaGraphLaunch
            cudaGraphExecDestroy cudaEventCreateWithFlags cudaEventRecord cudaEventSynchronize
            cudaEventDestroy
        """
        module = self._module(names.split())
        kinds = ("HostToDevice", "DeviceToHost", "DeviceToDevice")
        module.cudaMemcpyKind = SimpleNamespace(**{f"cudaMemcpy{kind}": kind for kind in kinds})
        module.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
        module.cudaStreamNonBlocking, module.cudaEventDisableTiming = 1, 2
        return module

    def _module(self, names):
        return SimpleNamespace(**{name: self._wrapped(name) for name in names})

    def _wrapped(self, name):
        def call(*arguments):
            self.calls.append(name)
            if name in self.fail:
                return (self.fail[name], None)
            result = getattr(self, f"_{name}")(*arguments)
            if isinstance(result, Code):
                return (result, None)
            if result is None:
                return (SUCCESS,)
            return (SUCCESS, *result) if isinstance(result, tuple) else (SUCCESS, result)

        return call

    def _make(self, kind, value=True):
        self.handles += 1
        self.live[kind][self.handles] = value
        return self.handles

    def _drop(self, kind, handle):
        assert int(handle) in self.live[kind], f"no {kind} {handle}"
        return self.live[kind].pop(int(handle))

    def _cudaDriverGetVersion(self):
        return self.driver_version

    def _cudaGetDeviceCount(self):
        return self.gpus

    def _cudaGetDeviceProperties(self, ordinal):
        assert ordinal < self.gpus
        major, minor = self.capability
        name = b"NVIDIA GeForce RTX 4090"
        return SimpleNamespace(name=name, major=major, minor=minor, totalGlobalMem=24 << 30)

    def _cudaSetDevice(self, ordinal):
        if ordinal >= self.gpus:
            return Code(101, "cudaErrorInvalidDevice")
        self.current = ordinal
        return None

    def _allocate(self, kind, nbytes):
        assert self.current is not None
        if self.recording is not None:
            return CAPTURING
        assert nbytes > 0
        memory = ctypes.create_string_buffer(nbytes + ALIGNMENT)
        start = -(-ctypes.addressof(memory) // ALIGNMENT) * ALIGNMENT
        ctypes.memset(start, POISON, nbytes)
        self.live[kind][start] = (start, nbytes, memory)
        return start

    def _cudaMalloc(self, nbytes):
        return self._allocate("device", nbytes)

    def _cudaMallocHost(self, nbytes):
        return self._allocate("host", nbytes)

    def _free(self, kind, address):
        assert not self.queue, "memory is freed while work is still to be done"
        start, size, _ = self._drop(kind, address)
        ctypes.memset(start, POISON, size)

    def _cudaFree(self, address):
        self._free("device", address)

    def _cudaFreeHost(self, address):
        self._free("host", address)

    def _cudaMemcpyAsync(self, target, source, nbytes, kind, stream):
        """Reads the host's memory late, as a GPU may that has access to all of it."""
        assert stream in self.live["stream"]
        assert type(target) is type(source) is type(nbytes) is int
        if kind == "DeviceToHost":
            self.downloads.append(nbytes)

        def work():
            if kind != "HostToDevice":
                self.require_span(source, nbytes)
            if kind != "DeviceToHost":
                self.require_span(target, nbytes)
            ctypes.memmove(target, source, nbytes)

        self.ask(work)

    def _cudaMemsetAsync(self, target, byte, nbytes, stream):
        assert stream in self.live["stream"]

        def work():
            self.require_span(target, nbytes)
            ctypes.memset(target, byte, nbytes)

        self.ask(work)

    def _cudaStreamCreateWithFlags(self, flags):
        assert flags == 1
        return self._make("stream", self.current)

    def _cudaStreamDestroy(self, stream):
        self._drop("stream", stream)

    def _cudaStreamSynchronize(self, stream):
        assert stream in self.live["stream"]
        if self.recording is not None:
            return CAPTURING
        self.flush()
        return None

    def _cudaStreamBeginCapture(self, stream, mode):
        assert stream in self.live["stream"]
        assert mode == 1
        assert self.recording is None
        self.recording = []

    def _cudaStreamEndCapture(self, stream):
        assert stream in self.live["stream"]
        recorded, self.recording = self.recording, None
        return self._make("graph", recorded)

    def _cudaGraphInstantiate(self, graph, flags):
        assert flags == 0
        return self._make("exec", list(self.live["graph"][graph]))

    def _cudaGraphDestroy(self, graph):
        self._drop("graph", graph)

    def _cudaGraphLaunch(self, ready, stream):
        assert stream in self.live["stream"]
        for work in self.live["exec"][ready]:
            self.ask(work)

    def _cudaGraphExecDestroy(self, ready):
        self._drop("exec", ready)

    def _cudaEventCreateWithFlags(self, flags):
        assert flags == 2
        return self._make("event")

    def _cudaEventRecord(self, event, stream):
        assert stream in self.live["stream"]
        done = self.live["event"][event] = []
        self.ask(lambda: done.append(True))

    def _cudaEventSynchronize(self, event):
        done = self.live["event"][event]
        while not done:
            self.queue.pop(0)()

    def _cudaEventDestroy(self, event):
        self._drop("event", event)

    def _cuModuleLoadData(self, image):
        assert bytes(image).startswith(b"\x7fELF")
        return self._make("module", self.current)

    def _cuModuleGetFunction(self, module, name):
        assert module in self.live["module"]
        return name.decode()

    def _cuModuleUnload(self, module):
        assert self._drop("module", module) == self.current

    def _cuLaunchKernel(self, function, *arguments):
        *sizes, shared, stream, packed, extra = arguments
        assert len(sizes) == 6
        assert all(size >= 1 for size in sizes)
        assert (shared, extra) == (0, 0)
        self.require_stream(stream)
        values, types = packed
        plain = tuple(kind(value).value or 0 for kind, value in zip(types, values, strict=True))
        self.ask(lambda: KERNELS[function](self, *plain))

    def _nvrtcVersion(self):
        return 12, 9

    def _nvrtcGetSupportedArchs(self):
        return list(self.archs)

    def _nvrtcCreateProgram(self, source, name, headers, sources, names):
        assert (headers, sources, names) == (0, [], [])
        return self._make("program", source)

    def _nvrtcCompileProgram(self, program, count, options):
        assert program in self.live["program"]
        assert count == len(options)
        self.options = [option.decode() for option in options]

    def _nvrtcGetCUBINSize(self, program):
        return 8 + len(self.live["program"][program])

    def _nvrtcGetCUBIN(self, program, buffer):
        buffer[:] = b"\x7fELF\0\0\0\0" + self.live["program"][program]

    def _nvrtcGetProgramLogSize(self, program):
        return 16

    def _nvrtcGetProgramLog(self, program, buffer):
        buffer[:] = b"line 1: wrong\0\0\0"

    def _nvrtcDestroyProgram(self, program):
        self._drop("program", program)


def _floats(half):
    return np.float16 if half else np.float32


def _note(cuda, array, failed, check):
    if not np.isfinite(array.astype(np.float32)).all():
        flag = cuda.view(failed, np.int32, (1,))
        flag[0] = min(int(flag[0]), check)


def combine(
    cuda, target, half, copies, count, history, slots, weights, terms, scale, factor, shift
):
    """The kernel of the same name, in NumPy."""
    slots = cuda.view(slots, np.int32, (terms,))
    weights = cuda.view(weights, np.float32, (terms,))
    rows = [cuda.view(history + 4 * count * int(slot), np.float32, (count,)) for slot in slots]
    total = rows[0] * weights[0]
    for weight, row in zip(weights[1:], rows[1:], strict=True):
        total = total + weight * row
    total = total / np.float32(scale) / np.float32(factor) + np.float32(shift)
    cuda.view(target, _floats(half), (copies, count))[:] = total


def guide(cuda, target, raw, half, count, guidance, failed, check):
    """The kernel of the same name, in NumPy."""
    both = cuda.view(raw, _floats(half), (2, count)).astype(np.float32)
    _note(cuda, both, failed, check)
    cuda.view(target, np.float32, (count,))[:] = both[0] + np.float32(guidance) * (
        both[1] - both[0]
    )


def place(cuda, target, half, width, first, source, source_half, rows, columns, failed, check):
    """The kernel of the same name, in NumPy."""
    values = cuda.view(source, _floats(source_half), (rows, columns))
    _note(cuda, values, failed, check)
    if target:
        cuda.view(target, _floats(half), (rows, width))[:, first : first + columns] = values


KERNELS = {"combine": combine, "guide": guide, "place": place}
