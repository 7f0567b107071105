"""The formats of a component's weights, as a recipe has them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from ...core.formats import Format
from ...core.recipe import LayerFormats, Recipe
from .layer_names import identifier
from .ports import AppleModule


def recipe_weights(module: AppleModule) -> dict[str, tuple[int, ...]]:
    """Name and shape of the weights that a recipe may speak of.

    Not of embeddings, of which Core ML would have to unpack the whole table for a few rows, nor of
    what the component does not run.
    """
    used = tuple(f"{each}." for each in module.used)
    return {
        name: tuple(parameter.shape)
        for name, parameter in module.inner.named_parameters()
        if (not used or name.startswith(used))
        and not isinstance(module.inner.get_submodule(name.rpartition(".")[0]), nn.Embedding)
    }


def plan_of(recipe: Recipe, role: str, weights: Mapping[str, Sequence[int]]) -> dict[str, Format]:
    """The format of each weight of a component that does not stay as it is.

    Args:
        recipe: The recipe.
        role: Role of the component.
        weights: Name and shape of its weights.

    Raises:
        RecipeError: See `Recipe.plan`.
    """
    plan = with_dots(recipe, role, weights).plan(role, weights)
    return {name: form for name, form in plan.items() if form.kind != "float"}


def with_dots(recipe: Recipe, role: str, weights: Mapping[str, Sequence[int]]) -> Recipe:
    """A recipe whose names and patterns have dots, where it was written with underscores.

    Recipes for Core ML once named weights as its programs do: `conv_in_weight`, `*_attn2_*`. What
    names nothing either way stays.
    """
    rules = recipe.components.get(role)
    if rules is None:
        return recipe
    called = {identifier(name): name for name in weights}
    layers = {_dotted(name, called): form for name, form in rules.layers.items()}
    return replace(
        recipe, components={**recipe.components, role: LayerFormats(rules.default, layers)}
    )


def _dotted(rule: str, called: Mapping[str, str]) -> str:
    """A name or pattern that fits names with dots; `called` has them by those without."""
    if rule in called.values() or any(fnmatch.fnmatchcase(each, rule) for each in called.values()):
        return rule
    flat = re.sub(r"[^\w*?\[\]!]+", "_", rule)
    if flat in called:
        return called[flat]
    # An underscore may have been a dot; within brackets it stays.
    parts = re.split(r"(\[[^\]]*\])", flat)
    loose = "".join(
        each if index % 2 else each.replace("_", "[._]") for index, each in enumerate(parts)
    )
    fits = any(fnmatch.fnmatchcase(each, loose) for each in called.values())
    return loose if fits else rule
