"""The options of `kdexport coreml` as a frozen dataclass, validated when it is made."""

from __future__ import annotations

from dataclasses import dataclass

from .coreml_formats import require_formats
from .errors import OptionError
from .options import DEFAULT_SCHEDULERS, require_choice
from .quantization import Quantization

COREML_PRECISIONS = ("fp16", "fp32")
COREML_ATTENTIONS = ("original", "split-einsum", "split-einsum-v2", "sdpa")
COREML_TARGETS = ("iOS16", "iOS17", "iOS18")
COMPUTE_UNITS = ("all", "cpu-and-neural-engine", "cpu-and-gpu", "cpu-only")
# Queries per slice of `split-einsum-v2` where nothing else is asked for; Apple's number.
DEFAULT_SLICE = 512

# Apple's advice: channels-first attention for the Neural Engine, the others for the GPU.
_FITTING_UNITS = {
    "original": "cpu-and-gpu",
    "split-einsum": "cpu-and-neural-engine",
    "split-einsum-v2": "cpu-and-neural-engine",
    "sdpa": "cpu-and-gpu",
}
_SLICED = ("original", "split-einsum-v2")


@dataclass(frozen=True)
class CoremlOptions:
    """How a pipeline is exported to Core ML.

    Attributes:
        precision: `fp16`, with float32 where measuring finds that it is needed, or `fp32`.
        attention: `original` (whole matrices, for the GPU), `split-einsum` (channels first, head
            by head, for the Neural Engine), `split-einsum-v2` (the same, queries in slices) or
            `sdpa` (the fused operation of iOS18).
        slice_size: Queries per slice; None takes 512 for `split-einsum-v2`, else no slices.
        target: Oldest system that the packages load on.
        compute_units: What they are meant to run on; None takes what fits the attention.
        sizes: Image heights and widths in pixels, the default first; empty takes the model's own.
        rows: Rows of the U-Net's batch, 1 or 2; None takes 2 where the model is run with guidance.
        quantization: Formats of the weights, or None for float weights.
        chunk: Split the U-Net in two packages.
        epsilon: Turn a v-prediction into the noise that Apple's schedulers expect.
        with_encoder: Also export the VAE encoder.
        schedulers: Names of schedulers to compile beside the model's own.
        max_steps: Largest number of steps to compile tables for.
    """

    precision: str = "fp16"
    attention: str = "split-einsum"
    slice_size: int | None = None
    target: str = "iOS17"
    compute_units: str | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    rows: int | None = None
    quantization: Quantization | None = None
    chunk: bool = False
    epsilon: bool = False
    with_encoder: bool = False
    schedulers: tuple[str, ...] = DEFAULT_SCHEDULERS
    max_steps: int = 50

    def __post_init__(self) -> None:
        require_choice(self.precision, COREML_PRECISIONS, "Core ML precision")
        require_choice(self.attention, COREML_ATTENTIONS, "Core ML attention")
        require_choice(self.target, COREML_TARGETS, "deployment target")
        require_choice(self.resolved_units, COMPUTE_UNITS, "set of compute units")
        if self.attention == "sdpa" and self.target != "iOS18":
            raise OptionError(
                f"The attention 'sdpa' is an operation of iOS18, and the target is {self.target}; "
                "choose --target iOS18 or another attention."
            )
        if self.slice_size is not None and self.slice_size < 1:
            raise OptionError(f"The slice size must be at least 1, not {self.slice_size}.")
        if self.slice_size is not None and self.attention not in _SLICED:
            raise OptionError(
                f"The attention '{self.attention}' has no slices; leave --slice-size out or choose "
                f"{' or '.join(_SLICED)}."
            )
        if self.rows not in (None, 1, 2):
            raise OptionError(
                f"The U-Net's batch has 1 or 2 rows, not {self.rows}; choose --guidance-batch 1 or "
                "2, or leave it out."
            )
        if self.quantization is not None:
            if self.precision == "fp32":
                raise OptionError("Compressed weights become float16; choose the precision fp16.")
            require_formats(self.quantization.formats, self.target)
        if len(self.sizes) > 1 and (self.chunk or self.resolved_slice is not None):
            what = "A U-Net in chunks" if self.chunk else "Attention in slices"
            raise OptionError(f"{what} takes one size only; give one, or leave that out.")
        if len(set(self.sizes)) < len(self.sizes):
            raise OptionError("A size was given twice; name each once.")
        lengths = [length for size in self.sizes for length in size]
        for value in (*lengths, self.max_steps):
            if value < 1:
                raise OptionError(f"Sizes and numbers of steps must be at least 1, not {value}.")

    @property
    def resolved_units(self) -> str:
        """The compute units that the manifest records."""
        if self.compute_units is not None or self.attention not in _FITTING_UNITS:
            return self.compute_units or "all"
        return _FITTING_UNITS[self.attention]

    @property
    def resolved_slice(self) -> int | None:
        """Queries per slice, or None where they are not sliced."""
        if self.slice_size is None and self.attention == "split-einsum-v2":
            return DEFAULT_SLICE
        return self.slice_size
