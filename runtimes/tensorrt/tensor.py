"""Arrays in device memory, and what the loop needs of a device.

The loop knows a device by `Device` only, so that its tests run it on the memory of the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...core.errors import RunError


@dataclass(frozen=True)
class Tensor:
    """A contiguous array somewhere in device memory; it owns nothing.

    Attributes:
        address: Of its first element.
        dtype: NumPy's name of its type.
        shape: Its sizes.
    """

    address: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.size * np.dtype(self.dtype).itemsize

    def rows(self, start: int, stop: int) -> Tensor:
        """Its rows from `start` up to `stop`, in place."""
        row = self.nbytes // self.shape[0]
        return Tensor(self.address + start * row, self.dtype, (stop - start, *self.shape[1:]))

    def reshaped(self, *shape: int) -> Tensor:
        """The same elements in another shape."""
        if math.prod(shape) != self.size:
            raise RunError(f"A tensor of the shape {self.shape} cannot take the shape {shape}.")
        return Tensor(self.address, self.dtype, shape)


# What a kernel is launched with: addresses and whole numbers, or single precision numbers.
Argument = int | float


class Device(Protocol):
    """A GPU with one queue of work: what is asked for is done in order, later than asked for."""

    def make_current(self) -> None:
        """Makes this the GPU of the calling thread, as everything below wants it."""

    def allocate(self, nbytes: int) -> int:
        """Takes memory and returns its address, a multiple of 256."""

    def free(self, address: int) -> None:
        """Gives memory back after all work is done."""

    def pinned(self, nbytes: int) -> int:
        """Takes memory of the host from which uploads need not wait, and returns its address."""

    def unpin(self, address: int) -> None:
        """Gives such memory back after all work is done."""

    def upload(self, target: Tensor, array: NDArray[Any]) -> None:
        """Copies an array of the same type and size, which must stay as it is until a wait."""

    def download(self, source: Tensor) -> NDArray[Any]:
        """Waits for all work, and copies to a new array."""

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Copies between tensors of the same type and size."""

    def fill(self, target: Tensor, byte: int) -> None:
        """Sets every byte."""

    def launch(self, kernel: str, count: int, arguments: tuple[Argument, ...]) -> None:
        """Runs a kernel of `kernels.py` over `count` elements."""

    def capture(self, work: Callable[[], None]) -> int:
        """Records work instead of doing it; returns a handle for `replay` and `forget`."""

    def replay(self, graph: int) -> None:
        """Does the work that was recorded."""

    def forget(self, graph: int) -> None:
        """Frees what was recorded."""

    def mark(self) -> int:
        """Puts a mark behind the work asked for so far; returns a handle for one `wait`."""

    def wait(self, mark: int) -> None:
        """Waits until a mark is reached, and frees it."""

    def synchronize(self) -> None:
        """Waits for all work."""
