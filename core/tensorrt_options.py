"""The options of `kdexport tensorrt` as a frozen dataclass, validated when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .engines import ENGINES
from .errors import OptionError, choices
from .gpus import resolve_gpu
from .options import DEFAULT_SCHEDULERS, require_choice
from .profiles import Profile
from .quantization import Quantization

TENSORRT_PRECISIONS = ("fp16", "bf16", "fp32")
TENSORRT_ATTENTIONS = ("portable", "native")
# What other tools call a precision, and the weight formats that it means here.
_QUANTIZED = {"int8": "int8-static or int8", "fp8": "fp8", "int4": "int4"}
COMPATIBILITIES = ("none", "ampere-plus", "same-capability")
LEVELS = range(6)
# The GPU of this machine, as a name of a GPU.
THIS_GPU = "this"
# What engines of a kind are for where nobody says.
DEFAULT_GPUS: Mapping[str, tuple[str, ...]] = {"rtx": ("4090",), "native": (THIS_GPU,)}


@dataclass(frozen=True)
class TensorrtOptions:
    """How a pipeline is exported to TensorRT.

    Attributes:
        gpus: What the engines are for: names, compute capabilities, or `this`.
        engine: `rtx` (TensorRT for RTX, built on any machine) or `native` (TensorRT, tuned on the
            GPU of this machine).
        precision: `fp16` (float16, float32 for inputs, outputs and numerical hazards), `bf16`
            (U-Net and ControlNet in bfloat16, the rest as in fp16) or `fp32`.
        attention: `portable` (MatMul and Softmax) or `native` (the operator of opset 23).
        profile: The sizes that the engines take, see `Profile.parse`.
        with_encoder: Also export the VAE encoder.
        schedulers: Names of schedulers to compile beside the model's own.
        max_steps: Largest number of steps to compile tables for.
        timing_cache: File with the timings of earlier native builds, read and added to.
        compatibility: Other GPUs that a native engine runs on: `none`, `ampere-plus` or
            `same-capability`.
        level: Optimization level of native builds, 0 to 5; None takes TensorRT's own.
        quantization: Weights of few bits, with symmetric activations; or None.
    """

    gpus: tuple[str, ...] = DEFAULT_GPUS["rtx"]
    engine: str = "rtx"
    precision: str = "fp16"
    attention: str = "portable"
    profile: tuple[str, ...] = ()
    with_encoder: bool = False
    schedulers: tuple[str, ...] = DEFAULT_SCHEDULERS
    max_steps: int = 50
    timing_cache: Path | None = None
    compatibility: str = "none"
    level: int | None = None
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        require_choice(self.engine, ENGINES, "kind of engine")
        if self.precision in _QUANTIZED:
            raise OptionError(
                f"The precision is that of what is not quantized, so it is not {self.precision} "
                f"but {choices(TENSORRT_PRECISIONS)}; choose --quantize "
                f"{_QUANTIZED[self.precision]}."
            )
        require_choice(self.precision, TENSORRT_PRECISIONS, "TensorRT precision")
        require_choice(self.attention, TENSORRT_ATTENTIONS, "TensorRT attention")
        require_choice(self.compatibility, COMPATIBILITIES, "hardware compatibility")
        if not self.gpus:
            raise OptionError("Engines are for a GPU; give at least one, such as --gpu 4090.")
        for each in self.gpus:
            if each != THIS_GPU:
                resolve_gpu(each)
        # Any size stands in for the model's, which is not known yet.
        Profile.parse(self.profile, 1)
        if self.max_steps < 1:
            raise OptionError(f"The number of steps must be at least 1, not {self.max_steps}.")
        if self.level is not None and self.level not in LEVELS:
            raise OptionError(
                f"The optimization level must be from {LEVELS[0]} to {LEVELS[-1]}, not "
                f"{self.level}."
            )
        self._require_native()
        if self.quantization is not None:
            self._check_quantization(self.quantization)

    def _require_native(self) -> None:
        given = {
            "--timing-cache": self.timing_cache is not None,
            "--compatibility": self.compatibility != "none",
            "--level": self.level is not None,
        }
        for name, is_given in given.items():
            if is_given and self.engine != "native":
                raise OptionError(
                    f"TensorRT for RTX has no {name}, which is for tuning on a GPU; leave it out "
                    "or choose --engine native."
                )

    @staticmethod
    def _check_quantization(quantization: Quantization) -> None:
        if quantization.activations != "signed":
            raise OptionError(
                f"TensorRT takes symmetric activations only, and those of '{quantization.name}' "
                f"are {quantization.activations}; choose signed."
            )
        quantization.require_onnx()

    @property
    def library(self) -> str:
        """The Python package that builds the engines."""
        return ENGINES[self.engine].module
