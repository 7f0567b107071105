"""What was written of a layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantized:
    """A convolution or linear layer of a written graph.

    Attributes:
        name: Path of the module.
        format: Format of its weight; `float` where it stayed as it was.
        bytes: What its weight takes in the file, scales included.
        parameters: Number of weights, without the bias.
    """

    name: str
    format: str
    bytes: int
    parameters: int
