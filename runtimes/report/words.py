"""Names and figures as pages and cards say them."""

from __future__ import annotations

import math
from collections.abc import Mapping

# What the backends of a manifest are called.
BACKENDS: Mapping[str, str] = {"onnx": "ONNX", "coreml": "Core ML", "tensorrt": "TensorRT"}


def decibels(value: float) -> str:
    """A PSNR in dB: infinite is that of equal arrays, NaN that of arrays that are not finite."""
    if math.isnan(value):
        return "NaN or Inf"
    return "equal" if value == math.inf else f"{value:.1f} dB"
