"""Memory of a GPU through CUDA's runtime: taken, copied, set and freed, in the order of one stream.

Written without a GPU: every call into CUDA was run against a stand-in with the same functions on
the memory of the host, never against a device.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import RunError
from .libraries import Cuda
from .tensor import Tensor


class CudaMemory:
    """Memory of one GPU, and a book of all that must be freed; see `tensor.Device`."""

    def __init__(self, cuda: Cuda, ordinal: int) -> None:
        """Takes nothing yet.

        Args:
            cuda: The bindings.
            ordinal: Number of the GPU.
        """
        self._cuda, self._runtime, self._ordinal = cuda, cuda.runtime, ordinal
        self._stream: Any = None
        # What is still to be freed: the function that does it, and a handle, to what it takes.
        self._held: dict[tuple[str, int], Any] = {}
        # Arrays that are still to be read.
        self._uploading: list[NDArray[Any]] = []
        self._count = 0

    def make_current(self) -> None:
        """Makes this the GPU of the calling thread."""
        self._call("cudaSetDevice", self._ordinal, doing=f"choose GPU {self._ordinal}")

    def allocate(self, nbytes: int) -> int:
        """See `Device`."""
        self._require_open()
        address = int(self._call("cudaMalloc", nbytes, doing=f"take {nbytes / 1e6:.0f} MB"))
        return self._hold("cudaFree", address, address)

    def free(self, address: int) -> None:
        """See `Device`."""
        self._free("cudaFree", address)

    def pinned(self, nbytes: int) -> int:
        """See `Device`."""
        self._require_open()
        address = int(self._call("cudaMallocHost", nbytes, doing="take memory of the host"))
        return self._hold("cudaFreeHost", address, address)

    def unpin(self, address: int) -> None:
        """See `Device`."""
        self._free("cudaFreeHost", address)

    def upload(self, target: Tensor, array: NDArray[Any]) -> None:
        """See `Device`."""
        if array.dtype.name != target.dtype or array.nbytes != target.nbytes:
            raise RunError(
                f"An array of {array.nbytes} bytes of {array.dtype.name} does not fit a tensor of "
                f"{target.nbytes} bytes of {target.dtype}; please report this."
            )
        source = np.ascontiguousarray(array)
        # Where a GPU reads ordinary memory itself, CUDA returns before it has done so.
        self._uploading.append(source)
        self._copy(target.address, source.ctypes.data, source.nbytes, "HostToDevice")

    def download(self, source: Tensor) -> NDArray[Any]:
        """See `Device`."""
        array = np.empty(source.shape, source.dtype)
        self._copy(array.ctypes.data, source.address, source.nbytes, "DeviceToHost")
        self.synchronize()
        return array

    def copy(self, target: Tensor, source: Tensor) -> None:
        """See `Device`."""
        if (target.dtype, target.nbytes) != (source.dtype, source.nbytes):
            raise RunError(
                f"{source.nbytes} bytes of {source.dtype} cannot be copied to {target.nbytes} "
                f"bytes of {target.dtype}; please report this."
            )
        self._copy(target.address, source.address, source.nbytes, "DeviceToDevice")

    def fill(self, target: Tensor, byte: int) -> None:
        """See `Device`."""
        size = target.nbytes
        self._call("cudaMemsetAsync", target.address, byte, size, self._stream, doing="set memory")

    def synchronize(self) -> None:
        """See `Device`."""
        self._call("cudaStreamSynchronize", self._stream, doing="run what was asked for")
        self._uploading.clear()

    def _copy(self, target: int, source: int, nbytes: int, direction: str) -> None:
        kind = getattr(self._runtime.cudaMemcpyKind, f"cudaMemcpy{direction}")
        doing = "copy memory"
        self._call("cudaMemcpyAsync", target, source, nbytes, kind, self._stream, doing=doing)

    def _require_open(self) -> None:
        if self._stream is None:
            raise RunError("The GPU was given back; load the bundle again.")

    def _hold(self, destroyer: str, handle: int, value: Any) -> int:
        self._held[destroyer, handle] = value
        return handle

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _free(self, destroyer: str, handle: int) -> None:
        """Frees one thing after all work; does nothing where that was done."""
        if (destroyer, handle) in self._held:
            self.synchronize()
            self._call(destroyer, self._held.pop((destroyer, handle)), doing="free what it took")

    def _free_all(self) -> None:
        """Frees what its owners left, however far each call gets."""
        held, self._held = self._held, {}
        with ExitStack() as stack:
            for (destroyer, _), value in held.items():
                stack.callback(self._call, destroyer, value, doing="free what it took")

    def _call(self, name: str, *arguments: Any, doing: str) -> Any:
        return self._cuda.call(getattr(self._runtime, name), *arguments, doing=doing)
