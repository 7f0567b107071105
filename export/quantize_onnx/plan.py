"""What is quantized in each component of an export, checked before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.checkpoint import Checkpoint
from ...core.errors import RecipeError, listing
from ...core.formats import Format
from ...core.options import OnnxOptions
from ...core.quantization import Quantization
from ...core.ranges import Ranges, require_ranges
from ..cost import layer_macs
from ..parts import Part
from ..weights import Weights
from .quantized import Quantized

# What of a VAE each of its parts runs.
_STARTS = {
    "vae_decoder": ("decoder.", "post_quant_conv."),
    "vae_encoder": ("encoder.", "quant_conv."),
}


@dataclass(frozen=True)
class PartPlan:
    """How a component is quantized.

    Attributes:
        formats: Format of each weight, by the module's name.
        ranges: What activations are clipped to, by layer.
        signed: Whether quantized activations are symmetric, for TensorRT.
        standard: Whether to keep to standard operators.
        recipe: What the recipe is called.
        macs: Multiply-accumulates of each convolution and linear layer.
        expected: What the recipe reached where it was made, of a U-Net.
    """

    formats: Mapping[str, Format]
    ranges: Ranges
    signed: bool
    standard: bool
    recipe: str
    macs: Mapping[str, int]
    expected: Mapping[str, float]

    def record(self, quantized: Sequence[Quantized]) -> dict[str, Any]:
        """What the manifest says of a written component; see `Component.compression`."""
        stored = [each for each in quantized if each.format != "float"]
        names = {each.name for each in stored}
        counts = Counter(each.format for each in stored)
        everything = sum(self.macs.values())
        share = sum(macs for name, macs in self.macs.items() if name in names) / everything
        return {
            "recipe": self.recipe,
            "formats": dict(sorted(counts.items())),
            "layers": {"quantized": len(stored), "all": len(quantized)},
            "macs": round(share, 4),
            **({"expected": dict(self.expected)} if self.expected else {}),
        }


def plan_parts(
    checkpoint: Checkpoint,
    parts: Iterable[Part],
    weights: Mapping[str, Weights],
    options: OnnxOptions,
    latents: tuple[int, int],
) -> dict[str, PartPlan]:
    """The plans of the components that a recipe says something about, by role.

    Args:
        checkpoint: The pipeline.
        parts: The models to write.
        weights: The opened weights of each component, by its name in the pipeline.
        options: How they are exported.
        latents: Height and width of the latents that multiplications are counted for.

    Raises:
        RecipeError: The recipe names weights that a component does not have, or components that
            the export does not have, or a convolution as int8-dynamic.
        CalibrationError: A layer needs ranges and has none.
    """
    quantization = options.quantization
    if quantization is None:
        return {}
    roles = {part.role: part for part in parts}
    # The encoder is exported where it is asked for only.
    known = {*roles, "vae_encoder"}
    unknown = [role for role in quantization.recipe.components if role not in known]
    if unknown:
        raise RecipeError(
            f"The recipe is about the {listing(unknown)}, which this export does not have; it has "
            f"{listing(roles)}."
        )
    plans = {}
    for role, part in roles.items():
        if any(form.kind != "float" for form in quantization.formats_of(role)):
            shapes = part_shapes(role, weights[part.component])
            formats = quantization.plan(role, shapes)
            _require_linear(formats, shapes)
            if any(form.kind != "float" for form in formats.values()):
                macs = layer_macs(checkpoint.component(part.component), *latents)[role]
                plans[role] = _plan(role, formats, macs, quantization, options)
    return plans


def part_shapes(role: str, weights: Weights) -> dict[str, tuple[int, ...]]:
    """Name and shape of the weights of a component that a role runs."""
    starts = _STARTS.get(role, ("",))
    return {
        name: tensor.shape for name, tensor in weights.tensors.items() if name.startswith(starts)
    }


def _require_linear(formats: Mapping[str, Format], shapes: Mapping[str, tuple[int, ...]]) -> None:
    kernels = [
        name
        for name, form in formats.items()
        if form.activations == "dynamic" and len(shapes[name]) > 2
    ]
    if kernels:
        raise RecipeError(
            f"The format int8-dynamic is for linear layers, and {listing(kernels)} are kernels of "
            "convolutions; give them int8 or int8-static."
        )


def _plan(
    role: str,
    formats: Mapping[str, Format],
    macs: Mapping[str, int],
    quantization: Quantization,
    options: OnnxOptions,
) -> PartPlan:
    layers = {name.removesuffix(".weight"): form for name, form in formats.items()}
    static = [name for name in layers if layers[name].activations == "static" and name in macs]
    require_ranges(quantization.ranges or {}, static)
    return PartPlan(
        formats=formats,
        ranges=quantization.ranges or {},
        signed=quantization.activations == "signed",
        standard=options.attention != "fused",
        recipe=quantization.name,
        macs=macs,
        expected=quantization.recipe.expected if role == "unet" else {},
    )
