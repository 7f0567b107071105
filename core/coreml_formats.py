"""Which weight formats Core ML has, and from which system on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .errors import OptionError, choices
from .formats import FORMATS, Format
from .quantization import Quantization
from .recipe import LayerFormats

_OLDEST, _STATIC, _GROUPED = "iOS16", "iOS17", "iOS18"
# The oldest target of each format. Several palettes per tensor, three bits, sparse palettes and
# scales per block came with iOS18, `quantize` of activations with iOS17.
FORMAT_TARGETS: dict[str, str] = {
    **{f"palette{bits}": _OLDEST for bits in (8, 6, 4, 2, 1)},
    "float": _OLDEST,
    "int8": _OLDEST,
    "int8-static": _STATIC,
    "palette3": _GROUPED,
    **{f"palette{bits}-grouped": _GROUPED for bits in (8, 6, 4, 3, 2, 1)},
    "sparse50-palette6": _GROUPED,
    "int4": _GROUPED,
}
_LACKING = {
    "int8-dynamic": (
        "it finds no ranges of activations while it runs; choose int8-static, with calibrated "
        "ones, or int8, for the weights alone"
    ),
    "fp8": (
        "it has no 8-bit floating-point numbers; choose int8-static for weights and "
        "activations, or int8 or palette8 for the weights alone"
    ),
}


def require_formats(formats: Iterable[Format], target: str) -> None:
    """Raises `OptionError` where Core ML, or this target, lacks one of the formats.

    Args:
        formats: What weights are to be stored in.
        target: `iOS16`, `iOS17` or `iOS18`.
    """
    for form in formats:
        if form.name in _LACKING:
            raise OptionError(f"Core ML lacks the format '{form.name}': {_LACKING[form.name]}.")
        oldest = FORMAT_TARGETS[form.name]
        # Names of targets sort by their age.
        if oldest > target:
            raise OptionError(
                f"The weight format '{form.name}' came with {oldest}, and the target is {target}; "
                f"choose --target {oldest} or a format of {target}: "
                f"{choices(formats_of(target))}."
            )


def formats_of(target: str) -> tuple[str, ...]:
    """The names of the formats that a target has, in the order of `FORMATS`."""
    return tuple(name for name in FORMATS if FORMAT_TARGETS.get(name, "none") <= target)


def palette_named(bits: str, target: str) -> str:
    """The format that `--palettize 6` means: on targets that have them, a palette per group.

    Raises:
        OptionError: There are no palettes of so many bits.
    """
    name = f"palette{bits}"
    if name not in FORMATS:
        raise OptionError(f"Palettes have 8, 6, 4, 3, 2 or 1 bits, not {bits}.")
    grouped = f"{name}-grouped"
    return grouped if FORMAT_TARGETS[grouped] <= target else name


def with_text_encoders(quantization: Quantization, names: Iterable[str]) -> Quantization:
    """A preset that is about the text encoders, too; recipes stay what they are.

    They are a fifth of what a phone downloads. The activations of a U-Net alone are calibrated, so
    where a preset quantizes activations, text encoders stay.

    Args:
        quantization: What was asked for.
        names: The text encoders of the pipeline.
    """
    recipe = quantization.recipe
    form = FORMATS.get(recipe.made.get("preset", ""))
    if form is None or form.activations:
        return quantization
    more = {name: LayerFormats(form.name) for name in names}
    return replace(quantization, recipe=replace(recipe, components={**recipe.components, **more}))
