"""What is compared: pictures to draw, and the sides that draw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PROMPT = "a golden vase with different flowers"


@dataclass(frozen=True)
class Drawing:
    """A picture to draw.

    Attributes:
        steps: Denoising steps.
        guidance: Guidance scale; at most 1 means none.
        height: In pixels.
        width: In pixels.
        prompt: What to draw.
    """

    steps: int
    guidance: float
    height: int
    width: int
    prompt: str = PROMPT


@dataclass(frozen=True)
class DiffusersSide:
    """diffusers' own pipeline.

    Attributes:
        name: What the table calls it.
        model: The pipeline's folder.
        device: torch's name of the device.
        dtype: torch's name of the dtype.
        compiled: Mode of `torch.compile` for U-Net and decoder, or None for eager.
    """

    name: str
    model: str
    device: str
    dtype: str
    compiled: str | None = None
    kind: str = "diffusers"


@dataclass(frozen=True)
class OrtSide:
    """A bundle's ONNX files on ONNX Runtime.

    Attributes:
        name: What the table calls it.
        bundle: Its folder.
        provider: kdexport's name of the provider.
        cuda_graphs: Whether the U-Net is captured in CUDA graphs.
    """

    name: str
    bundle: str
    provider: str
    cuda_graphs: bool = False
    kind: str = "onnxruntime"


@dataclass(frozen=True)
class EngineSide:
    """A bundle's TensorRT engines.

    Attributes:
        name: What the table calls it.
        bundle: Its folder.
        runtime: `tensorrt` or `tensorrt-rtx`.
        provider: `cuda`, or `cuda-no-graphs`.
    """

    name: str
    bundle: str
    runtime: str
    provider: str
    kind: str = "engines"


Side = DiffusersSide | OrtSide | EngineSide

_KINDS: dict[str, type[Any]] = {
    "diffusers": DiffusersSide,
    "onnxruntime": OrtSide,
    "engines": EngineSide,
}


def side_from_json(data: dict[str, Any]) -> Side:
    """The side that `dataclasses.asdict` made `data` of."""
    side: Side = _KINDS[data["kind"]](**data)
    return side
