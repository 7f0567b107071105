"""The memory that a build takes, and whether this machine has it."""

from __future__ import annotations

from ...core.errors import ExportError
from ..memory import free_memory

# Peak resident memory of TensorRT for RTX 1.7, float16 U-Nets of one latent size: 965 MB of ONNX
# take 3.5 GB and 1570 MB take 5.3 GB, which is a line through three times the file; a U-Net of
# 8 MB with dynamic sizes takes 0.6 GB.
_TIMES = 3.0
_BASE = 700 << 20


def memory_needed(onnx_bytes: int) -> int:
    """Estimate of the peak resident memory of a build in bytes, of an ONNX file and its weights."""
    return int(_TIMES * onnx_bytes) + _BASE


def require_memory(onnx_bytes: int, role: str) -> None:
    """Raises `ExportError` where this machine has less free memory than a build needs.

    Args:
        onnx_bytes: Size of the ONNX file and its weights.
        role: Its component.
    """
    needed, free = memory_needed(onnx_bytes), free_memory()
    if free is not None and free < needed:
        raise ExportError(
            f"Building the engine of '{role}' needs about {needed / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free; close other programs, or build on a larger machine."
        )
