"""A GPU through CUDA's runtime: one stream with kernels, graphs and marks, beside its memory.

Written without a GPU: every call into CUDA was run against a stand-in with the same functions on
the memory of the host, never against a device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from .compile import Kernels, load_kernels
from .device_memory import CudaMemory
from .libraries import Cuda
from .tensor import Argument

_THREADS = 256
# The kernels walk on in strides, so a grid need not cover everything.
_MOST_BLOCKS = 4096


class CudaDevice(CudaMemory):
    """One GPU and one stream on it; see `tensor.Device`.

    It is opened by making it, and frees everything that it still holds when it is closed.
    """

    def __init__(self, cuda: Cuda, ordinal: int, capability: tuple[int, int]) -> None:
        """Starts the GPU.

        Args:
            cuda: The bindings.
            ordinal: Number of the GPU.
            capability: Its compute capability, for which the kernels are compiled.

        Raises:
            RunError: CUDA refused.
            ProviderError: The driver or a library of CUDA is missing.
        """
        super().__init__(cuda, ordinal)
        self._kernels: Kernels | None = None
        with ExitStack() as stack:
            stack.callback(self.close)
            self.make_current()
            flags = self._runtime.cudaStreamNonBlocking
            self._stream = self._call("cudaStreamCreateWithFlags", flags, doing="make a stream")
            self._kernels = load_kernels(cuda, capability)
            stack.pop_all()

    @property
    def stream(self) -> int:
        """The stream, as TensorRT takes it."""
        return int(self._stream)

    def close(self) -> None:
        """Waits for all work and frees everything; does nothing where that was done."""
        stream, self._stream = self._stream, None
        kernels, self._kernels = self._kernels, None
        if stream is None:
            return
        with ExitStack() as stack:
            stack.callback(self._call, "cudaStreamDestroy", stream, doing="free the stream")
            if kernels is not None:
                stack.callback(kernels.close)
            stack.callback(self._free_all)
            self.make_current()
            self._call("cudaStreamSynchronize", stream, doing="finish its work")

    def launch(self, kernel: str, count: int, arguments: tuple[Argument, ...]) -> None:
        """See `Device`."""
        self._require_open()
        blocks = min(-(-count // _THREADS), _MOST_BLOCKS)
        if self._kernels is not None:
            self._kernels.launch(kernel, blocks, _THREADS, self.stream, arguments)

    def capture(self, work: Callable[[], None]) -> int:
        """See `Device`.

        Raises:
            RunError: The work cannot be recorded.
        """
        # Other threads of the process may go on with CUDA meanwhile.
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode, doing="begin a graph")
        try:
            work()
        except BaseException:
            self._abandon_capture()
            raise
        graph = self._call("cudaStreamEndCapture", self._stream, doing="record a graph")
        try:
            ready = self._call("cudaGraphInstantiate", graph, 0, doing="prepare a graph")
        finally:
            self._call("cudaGraphDestroy", graph, doing="free a graph")
        return self._hold("cudaGraphExecDestroy", self._next(), ready)

    def _abandon_capture(self) -> None:
        """Ends a recording that is of no use; that it is broken is known, what counts is why."""
        code, graph = self._runtime.cudaStreamEndCapture(self._stream)
        if not int(code):
            self._call("cudaGraphDestroy", graph, doing="free a graph")

    def replay(self, graph: int) -> None:
        """See `Device`."""
        ready = self._held["cudaGraphExecDestroy", graph]
        self._call("cudaGraphLaunch", ready, self._stream, doing="run a graph")

    def forget(self, graph: int) -> None:
        """See `Device`."""
        self._free("cudaGraphExecDestroy", graph)

    def mark(self) -> int:
        """See `Device`."""
        flags = self._runtime.cudaEventDisableTiming
        event = self._call("cudaEventCreateWithFlags", flags, doing="make an event")
        handle = self._hold("cudaEventDestroy", self._next(), event)
        self._call("cudaEventRecord", event, self._stream, doing="record an event")
        return handle

    def wait(self, mark: int) -> None:
        """See `Device`."""
        event = self._held.pop(("cudaEventDestroy", mark), None)
        if event is None:
            return
        with ExitStack() as stack:
            stack.callback(self._call, "cudaEventDestroy", event, doing="free an event")
            self._call("cudaEventSynchronize", event, doing="run what was asked for")

    def __enter__(self) -> CudaDevice:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
