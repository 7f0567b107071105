"""A recipe: which format each weight of a pipeline is stored in, as a JSON file.

Names are those of the diffusers modules, with dots; a pattern of names has wildcards
(`*.attn2.*`). The same recipe serves every backend that has its formats.
"""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import OptionError, RecipeError, choices, listing
from .formats import FLOAT, FORMATS, Format, format_named, is_worth_it
from .manifest import ROLES

RECIPE_VERSION = 1
_VERSION_KEY = "kdexport_recipe"
_DEFAULT = "default"
_EXPECTED = {"unet_psnr_db", "image_psnr_db"}
_KEYS = {_VERSION_KEY, "made", "expected", "architecture", "components"}
# Where activations are quantized: what a U-Net begins and ends with, and its time embedding, which
# sees one row per image. They are small, and all errors pass through them.
_EDGES = ("conv_in.*", "conv_out.*", "time_embedding.*", "add_embedding.*", "*time_emb_proj*")
# What `--quantize` takes beside recipe files, and the format of most layers where it differs.
PRESETS = (*FORMATS, "hybrid")
_DEFAULTS = {"hybrid": "int8"}
_MIXTURES = {"hybrid": ("int8", "int8-static"), "int8-dynamic": ("int8", "int8-dynamic")}


@dataclass(frozen=True)
class LayerFormats:
    """The formats of one component.

    Attributes:
        default: Format of the weights that `layers` does not name; None where it names all.
        layers: Formats by name or pattern. A full name counts before a pattern, the first pattern
            that fits before the others.
    """

    default: str | None
    layers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.layers.values(), *([] if self.default is None else [self.default])):
            format_named(name)


@dataclass(frozen=True)
class Recipe:
    """Formats of all weights of a pipeline.

    Attributes:
        components: By role; components that are not named stay as they are.
        architecture: SHA-256 of the names and shapes of the weights, by role, or empty where the
            recipe is for any model that has such layers.
        made: What it was made from, in words and hashes; for people and for the manifest.
        expected: `unet_psnr_db` and `image_psnr_db` in dB, as measured where it was made; or empty.
    """

    components: Mapping[str, LayerFormats]
    architecture: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        reached = dict(self.expected)
        if reached and (set(reached) != _EXPECTED or not all(map(_is_number, reached.values()))):
            raise RecipeError(
                f"What a recipe is expected to reach must be {listing(sorted(_EXPECTED))}, each a "
                f"number of dB, not {reached}."
            )
        for role in self.components:
            if role not in ROLES:
                raise RecipeError(
                    f"The recipe has a component '{role}', which no pipeline has; components are "
                    f"{listing(ROLES)}."
                )

    def require_architecture(self, architecture: Mapping[str, str], model: str) -> None:
        """Raises `RecipeError` where the recipe was made for weights of other names or shapes.

        Args:
            architecture: SHA-256 of the names and shapes of the model's weights, by role.
            model: Its name, for the message.
        """
        for role, digest in self.architecture.items():
            if architecture.get(role) != digest:
                made = self.made.get("model")
                source = f" It was made from '{made}'." if made else ""
                raise RecipeError(
                    f"The recipe is for another model: the weights of the {role} of '{model}' have "
                    f"other names or shapes.{source} Make one with `kdexport quantize`."
                )

    def plan(self, role: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, Format]:
        """The format of every weight of a component; of biases, norms and small ones `float`.

        Args:
            role: The component.
            shapes: Name and shape of its weights.

        Raises:
            RecipeError: It names a weight that the component does not have, or says nothing of one.
        """
        rules = self.components.get(role)
        if rules is None:
            return dict.fromkeys(shapes, FLOAT)
        weights = [name for name, shape in shapes.items() if is_worth_it(shape)]
        patterns = [name for name in rules.layers if name not in shapes]
        small = [n for n, f in rules.layers.items() if n in shapes and n not in weights]
        if any(rules.layers[name] != FLOAT.name for name in small):
            raise RecipeError(
                f"The recipe names {listing(small)} of the {role}, which are biases or too small "
                "to have a format; leave them out."
            )
        chosen: dict[str, str] = {}
        unused, missing = set(patterns), []
        for name in weights:
            fitting = [each for each in patterns if fnmatch.fnmatchcase(name, each)]
            unused.difference_update(fitting)
            if name in rules.layers:
                chosen[name] = rules.layers[name]
            elif fitting:
                chosen[name] = rules.layers[fitting[0]]
            elif rules.default is not None:
                chosen[name] = rules.default
            else:
                missing.append(name)
        if unused:
            raise RecipeError(
                f"The recipe names {listing(sorted(unused))}, which no weight of the {role} is "
                f"called; they are {listing(weights)}."
            )
        if missing:
            raise RecipeError(
                f"The recipe says nothing about {listing(missing)} of the {role}; name them or add "
                'a "default".'
            )
        return {name: format_named(chosen.get(name, FLOAT.name)) for name in shapes}

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        return {
            _VERSION_KEY: RECIPE_VERSION,
            "made": dict(self.made),
            "expected": dict(self.expected),
            "architecture": dict(self.architecture),
            "components": {
                role: {
                    **({} if rules.default is None else {"default": rules.default}),
                    "layers": dict(rules.layers),
                }
                for role, rules in self.components.items()
            },
        }


def preset_recipe(name: str, shapes: Mapping[str, Mapping[str, Sequence[int]]]) -> Recipe:
    """A recipe that needs no table: one format for all weights, or a known mixture.

    Where activations are quantized, the edges of a U-Net stay as they are. `int8-dynamic` is for
    linear layers, so kernels keep 8-bit weights only. `hybrid` has 8-bit activations in
    convolutions and 8-bit weights elsewhere: what works for diffusion models, see the guide to
    hybrid quantization of optimum-intel.

    Args:
        name: A format, or `hybrid`.
        shapes: The components to compress, each with name and shape of its weights.

    Raises:
        OptionError: There is no such format.
    """
    preset_formats(name)
    components = {}
    for role, weights in shapes.items():
        layers = {}
        for weight, shape in weights.items():
            chosen = _preset(name, role, weight, len(shape) > 2)
            if chosen != _DEFAULTS.get(name, name) and is_worth_it(shape):
                layers[weight] = chosen
        components[role] = LayerFormats(_DEFAULTS.get(name, name), layers)
    return Recipe(components, made={"preset": name})


def preset_formats(name: str) -> tuple[str, ...]:
    """The formats of a preset; raises `OptionError` where there is none of that name."""
    if name not in PRESETS:
        raise OptionError(
            f"There is no weight format '{name}'; choose {choices(PRESETS)}, or name a recipe file."
        )
    return _MIXTURES.get(name, (name,))


def _preset(name: str, role: str, weight: str, is_kernel: bool) -> str:
    default = _DEFAULTS.get(name, name)
    edge = role == "unet" and any(fnmatch.fnmatchcase(weight, each) for each in _EDGES)
    if name in ("hybrid", "int8-static", "int8-dynamic", "fp8") and edge:
        return "float"
    if name == "hybrid" and is_kernel:
        return "int8-static"
    return "int8" if name == "int8-dynamic" and is_kernel else default


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def read_recipe(file: Path) -> Recipe:
    """Reads a recipe.

    A JSON object without the version is the short form: names or patterns of the U-Net's weights
    and their bits, or null for weights that stay; the key `default` is for all others.

    Raises:
        RecipeError: The file is missing, no recipe, or one of a newer version.
        OptionError: It names a format that does not exist.
    """
    try:
        data = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"The recipe '{file}' cannot be read: {error.strerror}; name another, or make one with "
            "`kdexport quantize`."
        ) from error
    except ValueError as error:
        raise RecipeError(
            f"The recipe '{file}' is not valid JSON: {error}; mend it, or make one with `kdexport "
            "quantize`."
        ) from error
    if not isinstance(data, dict) or not data:
        raise RecipeError(
            f"The recipe '{file}' must be a JSON object of weights and their bits, for example "
            '{"default": 6, "conv_in.weight": 8, "*attn2*": null}, or what `kdexport quantize` '
            "writes."
        )
    return recipe_from_json(data) if _VERSION_KEY in data else _short_form(data)


def recipe_from_json(data: Mapping[str, Any]) -> Recipe:
    """Reads what `Recipe.to_json` gave.

    Raises:
        RecipeError: It is something else, or of a newer version.
        OptionError: It names a format that does not exist.
    """
    version = data.get(_VERSION_KEY)
    if isinstance(version, int) and version > RECIPE_VERSION:
        raise RecipeError(
            f"The recipe has version {version}, this kdexport reads up to {RECIPE_VERSION}; "
            "upgrade kdexport or make the recipe again."
        )
    unknown = sorted(set(data) - _KEYS)
    components = data.get("components")
    if version != RECIPE_VERSION or unknown or not isinstance(components, Mapping):
        problem = f"it has {listing(unknown)}" if unknown else "it has no components"
        raise RecipeError(
            f"The recipe cannot be read: {problem}; make one with `kdexport quantize`."
        )
    rules = {}
    for role, each in components.items():
        layers = each.get("layers", {}) if isinstance(each, Mapping) else None
        if not isinstance(layers, Mapping) or set(each) - {"default", "layers"}:
            raise RecipeError(
                f"The recipe cannot be read: what it says of '{role}' must be a default and layers."
            )
        rules[role] = LayerFormats(each.get("default"), dict(layers))
    for key in _KEYS - {_VERSION_KEY, "components"}:
        if not isinstance(data.get(key, {}), Mapping):
            raise RecipeError(f"The recipe cannot be read: '{key}' must be a JSON object.")
    return Recipe(
        rules, data.get("architecture", {}), data.get("made", {}), data.get("expected", {})
    )


def _short_form(data: Mapping[str, Any]) -> Recipe:
    names = {key: _palette_name(bits) for key, bits in data.items()}
    default = names.pop(_DEFAULT, None)
    return Recipe({"unet": LayerFormats(default, names)})


def _palette_name(bits: object) -> str:
    if bits is None:
        return FLOAT.name
    if isinstance(bits, str):
        return format_named(bits).name
    name = f"palette{bits}"
    if isinstance(bits, bool) or name not in FORMATS:
        raise OptionError(
            f"A palette has 8, 6, 4, 3, 2 or 1 bits, not {bits!r}; null leaves weights as they are."
        )
    return name
