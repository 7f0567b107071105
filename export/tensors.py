"""Tensors that stay on disk until they are read: from a file, from a pickle, or as a view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

TORCH_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float64: np.dtype(np.float64),
    torch.float32: np.dtype(np.float32),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
    torch.int64: np.dtype(np.int64),
    torch.int32: np.dtype(np.int32),
    torch.uint8: np.dtype(np.uint8),
    torch.bool: np.dtype(np.bool_),
}


class ReadableTensor(Protocol):
    """A tensor of a checkpoint: type and shape are known, the numbers come when they are read."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, outermost first."""

    def read(self) -> NDArray[Any]:
        """Reads the tensor into an array of `shape` and `dtype`."""


@dataclass(frozen=True, eq=False)
class PickledTensor:
    """A tensor of a file that torch has mapped into memory; it may be non-contiguous."""

    tensor: torch.Tensor

    @property
    def dtype(self) -> np.dtype[Any]:
        """See `ReadableTensor`."""
        return TORCH_DTYPES[self.tensor.dtype]

    @property
    def shape(self) -> tuple[int, ...]:
        """See `ReadableTensor`."""
        return tuple(self.tensor.shape)

    def read(self) -> NDArray[Any]:
        """See `ReadableTensor`."""
        tensor = self.tensor.detach().contiguous()
        if tensor.dtype == torch.bfloat16:
            # numpy has no such type, so torch does not hand it over.
            return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()


@dataclass(frozen=True, eq=False)
class TensorView:
    """A stored tensor that is cut and turned after it was read.

    It has the few methods of `torch.Tensor` that diffusers' converters of single-file checkpoints
    call, so that those rename, split and transpose tensors which nobody has read yet.

    Attributes:
        stored: The tensor on disk.
        shadow: An array of the view's shape that owns one number.
        steps: What is done to the array that was read.
    """

    stored: ReadableTensor
    shadow: NDArray[Any]
    steps: tuple[Callable[[NDArray[Any]], NDArray[Any]], ...] = ()

    @classmethod
    def of(cls, stored: ReadableTensor) -> TensorView:
        """The whole of a tensor."""
        return cls(stored, np.broadcast_to(np.zeros((), stored.dtype), stored.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """See `ReadableTensor`."""
        return self.stored.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """See `ReadableTensor`."""
        return self.shadow.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.shadow.ndim

    @property
    def T(self) -> TensorView:  # noqa: N802
        """The view with its axes reversed."""
        return self._then(np.transpose)

    def __getitem__(self, key: Any) -> TensorView:
        """The view of a part, by slices and indices."""
        return self._then(lambda array: array[key])

    def contiguous(self) -> TensorView:
        """This view: what is read is always contiguous."""
        return self

    def clone(self) -> TensorView:
        """This view: it is never written to."""
        return self

    def detach(self) -> TensorView:
        """This view: it has no gradient."""
        return self

    def read(self) -> NDArray[Any]:
        """See `ReadableTensor`."""
        array = self.stored.read()
        for step in self.steps:
            array = step(array)
        # Not of a whole tensor: this would turn a scalar into a vector.
        return np.ascontiguousarray(array) if self.steps else array

    def _then(self, step: Callable[[NDArray[Any]], NDArray[Any]]) -> TensorView:
        return TensorView(self.stored, step(self.shadow), (*self.steps, step))
