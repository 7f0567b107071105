"""The tensors of an adapter file, read one by one: an adapter can be as large as a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from ..core.weight_files import SAFETENSORS
from .tensors import ReadableTensor
from .weights import read_tensors


@dataclass(frozen=True)
class AdapterTensor:
    """A tensor of an adapter: its name in the file, and what reads it."""

    key: str
    stored: ReadableTensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, outermost first."""
        return self.stored.shape

    def read(self) -> NDArray[np.float32]:
        """The tensor in float32, whatever type the file holds; not to be written to."""
        return self.stored.read().astype(np.float32, copy=False)

    def item(self) -> float:
        """The value of a tensor of one element."""
        return float(self.read().item())


@dataclass(frozen=True)
class OpenAdapter:
    """An opened weight file: its tensors by name, and the metadata in its header."""

    tensors: Mapping[str, AdapterTensor]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class LowRank:
    """One update: to the weight of a module is added `scale * up @ down`.

    Attributes:
        component: The component that the module is in.
        path: The module, by the name that the adapter gives.
        down: `(rank, inputs)`, or `(rank, inputs, height, width)` for a convolution.
        up: `(outputs, rank)`, or `(outputs, rank, 1, 1)`.
        scale: The factor that the adapter brings: alpha / rank, or alpha / sqrt(rank).
    """

    component: str
    path: str
    down: AdapterTensor
    up: AdapterTensor
    scale: float

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the update has the shape of this weight."""
        rank = self.down.shape[0]
        up = (shape[0], rank, *[1] * (len(shape) - 2))
        return len(shape) in (2, 4) and self.down.shape[1:] == shape[1:] and self.up.shape == up

    def product(self) -> NDArray[np.float32]:
        """`up @ down`, not scaled: `(outputs, inputs * height * width)`."""
        up, down = self.up.read(), self.down.read()
        product: NDArray[np.float32] = up.reshape(len(up), -1) @ down.reshape(len(down), -1)
        return product


def open_adapter(file: Path) -> OpenAdapter:
    """Opens a weight file; raises `WeightsError` where it is damaged or asks to run code."""
    tensors = {key: AdapterTensor(key, stored) for key, stored in read_tensors(file).items()}
    metadata: dict[str, str] = {}
    if file.suffix == SAFETENSORS:
        with safe_open(file, framework="np") as opened:
            metadata = opened.metadata() or {}
    return OpenAdapter(tensors, metadata)
