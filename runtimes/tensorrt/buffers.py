"""Device memory with an owner.

Written without a GPU: run against a stand-in only.
"""

from __future__ import annotations

import ctypes
import math
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ...core.errors import RunError
from .tensor import Device, Tensor


class Buffer:
    """Memory on a device, of one size for good."""

    def __init__(self, device: Device, nbytes: int) -> None:
        self.nbytes = nbytes
        self._device = device
        self._address: int | None = device.allocate(nbytes)

    @property
    def address(self) -> int:
        """Where it begins; raises `RunError` where it was freed."""
        if self._address is None:
            raise RunError("Memory of the GPU is used after it was freed; load the bundle again.")
        return self._address

    def tensor(self, dtype: str, shape: tuple[int, ...]) -> Tensor:
        """Its beginning as a tensor; raises `RunError` where the buffer is too small."""
        tensor = Tensor(self.address, dtype, shape)
        if tensor.nbytes > self.nbytes:
            raise RunError(
                f"A tensor of {tensor.nbytes} bytes does not fit into {self.nbytes} bytes of "
                "memory of the GPU; please report this."
            )
        return tensor

    def close(self) -> None:
        """Frees it; does nothing where that was done."""
        if self._address is not None:
            address, self._address = self._address, None
            self._device.free(address)


class Staging:
    """Memory of the host from which uploads need not wait.

    Attributes:
        count: Number of float32 values.
        array: The memory; not to be touched after `close`.
    """

    def __init__(self, device: Device, count: int) -> None:
        self.count = count
        self._device = device
        self._address = device.pinned(4 * max(count, 1))
        memory = (ctypes.c_float * max(count, 1)).from_address(self._address)
        self.array: NDArray[np.float32] = np.ctypeslib.as_array(memory)

    def close(self) -> None:
        """Frees it."""
        self._device.unpin(self._address)


class ActivationMemory:
    """What engines that never run at the same time keep their activations in.

    It is as large as the one with the largest activations needs, and taken when it is first used.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffer: Buffer | None = None
        self._needs: dict[int, int] = {}
        self._count = 0

    def join(self, nbytes: int) -> int:
        """Counts an engine in.

        Args:
            nbytes: Activation memory that it needs.

        Returns:
            What `leave` takes.
        """
        self._count += 1
        self._needs[self._count] = nbytes
        return self._count

    def leave(self, member: int) -> None:
        """Counts an engine out; the memory stays for the next one."""
        del self._needs[member]

    def buffer(self) -> Buffer:
        """The memory, which lies elsewhere after a larger engine has joined.

        Raises:
            RunError: The GPU has too little memory.
        """
        needed = max(self._needs.values(), default=0)
        if self._buffer is not None and self._buffer.nbytes < needed:
            self.close()
        if self._buffer is None:
            self._buffer = Buffer(self._device, max(needed, 1))
        return self._buffer

    def close(self) -> None:
        """Frees the memory."""
        if self._buffer is not None:
            buffer, self._buffer = self._buffer, None
            buffer.close()


class Workspace:
    """Named buffers, each as large as the largest tensor that was asked for under its name."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffers: dict[str, Buffer] = {}
        self._staging: Staging | None = None

    def tensor(self, name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor with memory of its own, whose contents are whatever was there.

        It is good until the name is asked for again, or all is closed. Where the name's buffer is
        too small it is replaced: the tensor lies elsewhere then, which whoever recorded addresses
        sees by the address.

        Raises:
            RunError: The GPU has too little memory.
        """
        nbytes = Tensor(0, dtype, shape).nbytes
        known = self._buffers.get(name)
        if known is None or known.nbytes < nbytes:
            if known is not None:
                # First, so that both never have to fit at once.
                del self._buffers[name]
                known.close()
            self._buffers[name] = Buffer(self._device, max(nbytes, 1))
        return self._buffers[name].tensor(dtype, shape)

    def staging(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Memory of the host from which uploads need not wait, the same for every call.

        Waits for all work, which may still be reading what was put there before.
        """
        count = math.prod(shape)
        if self._staging is not None and self._staging.count < count:
            self._staging.close()
            self._staging = None
        if self._staging is None:
            self._staging = Staging(self._device, count)
        self._device.synchronize()
        return self._staging.array[:count].reshape(shape)

    def close(self) -> None:
        """Frees everything."""
        if self._staging is not None:
            self._staging.close()
            self._staging = None
        while self._buffers:
            self._buffers.popitem()[1].close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
