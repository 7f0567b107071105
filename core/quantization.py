"""What is asked for when the weights of a bundle are to have few bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import CalibrationError, OptionError, RecipeError, choices
from .formats import FORMATS, Format, format_named
from .ranges import Ranges
from .recipe import Recipe

# How activations are quantized: `unsigned` with a zero point, for CPUs and phones, or `signed` and
# symmetric, for TensorRT.
ACTIVATIONS = ("unsigned", "signed")
# The component whose activations are calibrated.
CALIBRATED = "unet"

_ONNX_KINDS = ("float", "integer", "float8")
# Opsets that have blocks of 4-bit integers, float8, and scales of float16 and bfloat16.
_BLOCKS, _FLOAT8, _HALF = 21, 19, 19


@dataclass(frozen=True)
class Quantization:
    """How the weights of a bundle are stored.

    Attributes:
        name: What the user called it: a preset, or the name of a recipe file.
        recipe: The formats.
        ranges: What the U-Net's activations are clipped to, by layer; None where no format of the
            recipe needs them.
        activations: One of `ACTIVATIONS`.
    """

    name: str
    recipe: Recipe
    ranges: Ranges | None = None
    activations: str = "unsigned"

    def __post_init__(self) -> None:
        if self.activations not in ACTIVATIONS:
            raise OptionError(
                f"There are no '{self.activations}' activations; choose {choices(ACTIVATIONS)}."
            )
        for role in self.recipe.components:
            static = [form.name for form in self.formats_of(role) if form.activations == "static"]
            if static and role != CALIBRATED:
                raise CalibrationError(
                    f"The {role} cannot be {static[0]}: only the activations of the {CALIBRATED} "
                    "are calibrated; give it int8 in the recipe."
                )
            if static and not self.ranges:
                raise CalibrationError(
                    f"The format {static[0]} needs to know the ranges of activations; record "
                    "calibration data with `kdexport calibrate`, and name it with --calibration."
                )

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats that the recipe names, each once."""
        named = {form for role in self.recipe.components for form in self.formats_of(role)}
        return tuple(form for form in FORMATS.values() if form in named)

    def formats_of(self, role: str) -> tuple[Format, ...]:
        """The formats that the recipe names for a component, each once."""
        rules = self.recipe.components.get(role)
        if rules is None:
            return ()
        named = {*rules.layers.values(), *([] if rules.default is None else [rules.default])}
        return tuple(format_named(name) for name in FORMATS if name in named)

    def plan(self, role: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, Format]:
        """The format of every weight of a component; see `Recipe.plan`."""
        return self.recipe.plan(role, shapes)

    def require_onnx(self) -> None:
        """Raises `RecipeError` naming a format that ONNX Runtime, or TensorRT, does not have."""
        for form in self.formats:
            if form.kind not in _ONNX_KINDS:
                had = [each.name for each in FORMATS.values() if each.kind in _ONNX_KINDS]
                raise RecipeError(
                    f"ONNX has no palettes and no sparse weights, so there is no {form.name}; "
                    f"choose {choices(had)}, or export to Core ML."
                )
            if form.kind == "float8" and self.activations == "unsigned":
                raise RecipeError(
                    f"ONNX Runtime does not compute with 8-bit floating-point numbers, so there is "
                    f"no {form.name}; choose int8-static, or export to TensorRT."
                )
            if form.activations == "dynamic" and self.activations == "signed":
                raise RecipeError(
                    f"TensorRT does not find ranges at run time, so there is no {form.name}; "
                    "choose int8, int8-static or fp8."
                )

    def least_opset(self, precision: str) -> int:
        """The oldest ONNX opset that has what the formats need in a precision."""
        needed = [0]
        if any(form.blocked for form in self.formats):
            needed.append(_BLOCKS)
        if any(form.kind == "float8" for form in self.formats):
            needed.append(_FLOAT8)
        if precision != "fp32" and any(form.kind != "float" for form in self.formats):
            needed.append(_HALF)
        return max(needed)
