"""What a Core ML model takes and gives, by the names that Apple's Swift package knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...core.dimensions import evaluate
from ...core.errors import OptionError


@dataclass(frozen=True)
class ApplePort:
    """One input or output of a Core ML model.

    Attributes:
        name: What Apple's package calls it.
        dtype: Its type in the package, float16 or float32; inside everything is float32.
        shape: Sizes: numbers, or computed with `height` and `width`, which are latent cells for
            every model, also those that take or give pixels (see `export/dimensions.py`).
        description: A sentence about it, which Xcode shows.
        alias: The ONNX port with the same meaning.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int | str, ...]
    description: str
    alias: str

    def sizes(self, size: Mapping[str, int]) -> tuple[int, ...]:
        """Its shape in numbers.

        Args:
            size: `height` and `width` in latent cells.

        Raises:
            OptionError: The size leaves a dimension of the shape without a value.
        """
        sizes = [evaluate(each, size) for each in self.shape]
        if any(isinstance(each, str) for each in sizes):
            raise OptionError(
                f"The Core ML port '{self.name}' has the shape {self.shape}; give its height and "
                "width in latent cells."
            )
        return tuple(int(each) for each in sizes)


class AppleModule(nn.Module, ABC):
    """A component with the inputs and outputs that Apple's package expects; weights in `inner`.

    Attributes:
        inner: The diffusers or transformers module; its parameters keep their names.
        inputs: Inputs in the order of `forward`.
        outputs: Outputs in the order of the tuple that `forward` returns.
        summary: What the model is, in a sentence.
        used: The children of `inner` that it runs; empty where it runs all of it.
    """

    inputs: tuple[ApplePort, ...]
    outputs: tuple[ApplePort, ...]
    summary: str
    used: tuple[str, ...] = ()

    def __init__(self, inner: Any) -> None:
        """Wraps `inner`, which is put into evaluation mode."""
        super().__init__()
        self.inner: Any = inner
        self.eval()

    def examples(self, size: Mapping[str, int]) -> tuple[Tensor, ...]:
        """Float32 zeros in the shapes of the inputs, for tracing.

        Args:
            size: `height` and `width` in latent cells.

        Raises:
            OptionError: The size lacks one of them, and a shape needs it.
        """
        return tuple(torch.zeros(port.sizes(size)) for port in self.inputs)

    @abstractmethod
    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Runs the component in float32 on tensors as described by `inputs`."""
