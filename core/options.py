"""The options of the commands as frozen dataclasses, validated when they are made."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

from .adapters import Adapter
from .errors import OptionError, choices
from .quantization import Quantization

PRECISIONS = ("fp32", "fp16", "mixed", "bf16")
ATTENTIONS = ("fused", "portable", "sliced", "native")
# onnxscript writes these; GroupNormalization with the semantics of torch begins at 21.
OPSETS = range(18, 25)
# Conv takes bfloat16 since 22, and Attention exists since 23.
_LEAST_OPSETS = {"bf16": 22, "native": 23}
DEFAULT_SCHEDULERS = ("ddim", "euler", "dpm++2m")


def require_choice(value: str, allowed: Iterable[str], what: str) -> None:
    """Raises `OptionError` where `value` is not among `allowed`, naming those."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise OptionError(f"There is no {what} '{value}'; choose {choices(allowed)}.")


@dataclass(frozen=True)
class ModelOptions:
    """What the user adds to a model, or puts in the place of one of its parts.

    Attributes:
        decoder: Another VAE instead of the pipeline's own: a folder, a Hub id, `zoo:NAME`, or
            `demo-tiny`.
        base: The pipeline that gives what the model lacks: a folder, a Hub id or `zoo:NAME`.
        config: The pipeline whose configs describe a single-file checkpoint: a folder, a Hub id or
            `zoo:NAME`.
        variant: Variant of the weight files, such as `fp16`; None reads the plain ones.
        adapters: Adapters to fuse into the weights, in this order.
        controlnet: A ControlNet: a folder or a Hub id. None keeps the pipeline's own, if it has
            one.
        control_scale: Default conditioning scale of the ControlNet; None takes what its card
            recommends, else 1.
        control_invert: Whether control pictures are inverted first; None does what the ControlNet
            was trained for where that is known, else not.
        clip_skip: Last layers of the text encoders that prompts skip, as diffusers' argument of
            the same name counts them; None for the layer that the pipeline takes by itself.
    """

    decoder: str | None = None
    base: str | None = None
    config: str | None = None
    variant: str | None = None
    adapters: tuple[Adapter, ...] = ()
    controlnet: str | None = None
    control_scale: float | None = None
    control_invert: bool | None = None
    clip_skip: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) == "":
                raise OptionError(f"The {field.name} has no name; give one or leave it out.")
        # It becomes part of a file name.
        if self.variant is not None and not re.fullmatch(r"\w[\w-]*", self.variant):
            raise OptionError(f"'{self.variant}' is no variant of weight files; fp16 is one.")
        if self.control_scale is not None and not math.isfinite(self.control_scale):
            raise OptionError(
                f"The control scale must be a finite number, not {self.control_scale}."
            )
        if self.clip_skip is not None and self.clip_skip < 1:
            raise OptionError(
                f"The clip-skip must be at least 1, not {self.clip_skip}; leave it out to skip no "
                "layer."
            )


@dataclass(frozen=True)
class OnnxOptions:
    """How a pipeline is exported to ONNX.

    Attributes:
        precision: `fp32`; `fp16` (weights, activations, inputs and outputs); `mixed` (float16
            weights and activations, float32 inputs, outputs and numerical hazards); `bf16` (as
            `mixed`, with U-Net and ControlNet in bfloat16 instead of float16).
        attention: `fused` (one MultiHeadAttention node of ONNX Runtime), `portable` (MatMul and
            Softmax, standard operators only), `sliced` (portable, queries in slices), `native`
            (one standard Attention node, where TensorRT has a kernel for it).
        slice_size: Queries per slice for `sliced`; ignored by the others.
        opset: ONNX opset; None picks 23 for `native`, 22 for `bf16`, else 21 for `fused` and 18
            for `portable` and `sliced`, or what weights of few bits need.
        height: Fixed image height in pixels, or None where height and width stay dynamic.
        width: Fixed image width in pixels, or None.
        batch: Fixed number of U-Net rows, or None where it stays dynamic.
        with_encoder: Also export the VAE encoder.
        schedulers: Names of schedulers to compile beside the model's own.
        max_steps: Largest number of steps to compile tables for.
        quantization: Weights of few bits, or None.
    """

    precision: str = "fp32"
    attention: str = "fused"
    slice_size: int = 1024
    opset: int | None = None
    height: int | None = None
    width: int | None = None
    batch: int | None = None
    with_encoder: bool = False
    schedulers: tuple[str, ...] = DEFAULT_SCHEDULERS
    max_steps: int = 50
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        require_choice(self.precision, PRECISIONS, "precision")
        require_choice(self.attention, ATTENTIONS, "attention")
        if self.opset is not None and self.opset not in OPSETS:
            raise OptionError(
                f"Opset {self.opset} is not supported; choose {OPSETS[0]} to {OPSETS[-1]}."
            )
        for what, value in (("precision", self.precision), ("attention", self.attention)):
            least = _LEAST_OPSETS.get(value, 0)
            if self.opset is not None and self.opset < least:
                raise OptionError(
                    f"The {what} {value} needs opset {least} or newer, not {self.opset}; leave the "
                    "opset out."
                )
        if self.quantization is not None:
            self._check_quantization(self.quantization)
        if (self.height is None) != (self.width is None):
            raise OptionError("A static size needs both a height and a width.")
        for name in ("slice_size", "height", "width", "batch", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"The {name.replace('_', ' ')} must be at least 1, not {value}.")

    @property
    def resolved_opset(self) -> int:
        """The opset that the exporter writes."""
        usual = 21 if self.attention == "fused" else 18
        needed = [_LEAST_OPSETS.get(each, 0) for each in (self.precision, self.attention)]
        if self.quantization is not None:
            needed.append(self.quantization.least_opset(self.precision))
        return self.opset or max(usual, *needed)

    def _check_quantization(self, quantization: Quantization) -> None:
        quantization.require_onnx()
        least = quantization.least_opset(self.precision)
        if self.opset is not None and self.opset < least:
            raise OptionError(
                f"The formats of '{quantization.name}' need opset {least} or newer in "
                f"{self.precision}, not {self.opset}; leave the opset out."
            )


@dataclass(frozen=True)
class VerifyOptions:
    """How a bundle is compared with its reference.

    Attributes:
        steps: Denoising steps of the compared trajectory.
        prompts: Prompts compared, one trajectory each.
        seed: Seed of the noise.
        height: Image height in pixels; None takes the bundle's default.
        width: Image width in pixels; None takes the bundle's default.
        guidance: Guidance scale; None takes the bundle's default.
    """

    steps: int = 4
    prompts: tuple[str, ...] = ("a golden vase with different flowers",)
    seed: int = 0
    height: int | None = None
    width: int | None = None
    guidance: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise OptionError(f"The number of steps must be at least 1, not {self.steps}.")
        if not self.prompts:
            raise OptionError("Verification needs at least one prompt.")
