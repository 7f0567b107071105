"""How long an export takes and how much memory, from lines through what was measured.

Measured on two cores of an AMD EPYC with the models of docs/full_size.md, docs/coreml.md,
docs/tensorrt.md and docs/benchmarks.md; `tests/export/plan/test_estimates.py` holds the lines to
those tables. Work that multiplies is scaled by the measured rate of the machine at hand, the rest
is taken as it was there, so a plan may be wrong by a factor of two.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..summary import PartSummary, Summary
from .types import Machine, Stage

GB = 10**9

# Python, torch, diffusers and transformers, imported.
_IMPORTED = 0.7e9
# What a full decoder (the KL autoencoder of SD and SDXL) and a tiny one hold of activations while
# they decode, in bytes per pixel of the picture.
_DECODING, _TINY_DECODING = 7250, 1560
_TINY_DECODER = 5_000_000  # parameters; tiny ones have 1.2 million, full ones 49.5

# Seconds until a process has imported all that.
_STARTING = 8.0

# Exports to ONNX: seconds of every component, and per GB written, its hashing included.
_ONNX_COMPONENT, _ONNX_WRITTEN = 7.4, 4.1
_ONNX_MEMORY = 1.05e9

# coremltools converts a float16 program in memory: seconds of every component and per GB of float32
# weights, and its memory beside the largest of them.
_COREML_COMPONENT, _COREML_WEIGHTS = 10.0, 8.0
_COREML_MEMORY = 1.5e9

# TensorRT for RTX, seconds per GB of ONNX files, for each GPU.
_ENGINES = 18.0

# Share of the rate of torch's matrix product at which diffusers and the engines together work off a
# model's products, and seconds of loading and comparing.
_SHARE, _COMPARING = 0.5, 10.0
# How much longer the evaluator of Core ML programs takes, which rounds every result.
_EVALUATOR = 2.5


def onnx_export(written: int, components: int) -> Stage:
    """The export of ONNX files.

    Args:
        written: Bytes of the files.
        components: How many models there are.
    """
    seconds = _STARTING + components * _ONNX_COMPONENT + written / GB * _ONNX_WRITTEN
    return Stage("export", seconds, int(_ONNX_MEMORY))


def coreml_export(weights: int, largest: int, components: int) -> Stage:
    """The conversion to Core ML packages.

    Args:
        weights: Bytes of all weights in float32.
        largest: Bytes of the largest component's weights in float32.
        components: How many packages there are.
    """
    seconds = _STARTING + components * _COREML_COMPONENT + weights / GB * _COREML_WEIGHTS
    return Stage("export", seconds, int(_COREML_MEMORY + largest))


def engines(sizes: Iterable[int], gpus: int, memory: int) -> Stage:
    """The build of TensorRT for RTX engines.

    Args:
        sizes: Bytes of the ONNX files.
        gpus: How many compute capabilities they are built for.
        memory: What the largest build takes.
    """
    return Stage("engines", gpus * sum(sizes) / GB * _ENGINES, memory)


def comparison(summary: Summary, machine: Machine, steps: int, evaluated: bool) -> Stage:
    """The comparison with diffusers at the end of an export.

    Args:
        summary: The model, counted at the size that is compared.
        machine: Where.
        steps: Denoising steps that are compared.
        evaluated: Whether the export is run by the evaluator of Core ML programs.
    """
    weights = 4 * max(part.parameters for part in summary.parts)
    decoder = _part(summary, "vae_decoder")
    per_pixel = _TINY_DECODING if decoder.parameters < _TINY_DECODER else _DECODING
    pixels = summary.height * summary.width
    memory = _IMPORTED + weights + pixels * per_pixel
    rows = 2 if summary.guided else 1
    drawn = _part(summary, "unet").macs * rows * steps + decoder.macs
    # The reference draws once; the export once by component and once as a whole.
    times = 1 + (_EVALUATOR if evaluated else 1) * 2
    seconds = _COMPARING + times * drawn / (_SHARE * machine.rate)
    return Stage("comparison", seconds, int(memory))


def _part(summary: Summary, role: str) -> PartSummary:
    (found,) = (part for part in summary.parts if part.role == role)
    return found
