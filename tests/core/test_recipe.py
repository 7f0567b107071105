"""Recipes: which format a weight gets, what is refused, and the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kdexport.core.errors import OptionError, RecipeError
from kdexport.core.recipe import (
    LayerFormats,
    Recipe,
    preset_recipe,
    read_recipe,
    recipe_from_json,
)

_SHAPES = {
    "conv_in.weight": (64, 4, 3, 3),
    "conv_in.bias": (64,),
    "down.attn1.to_q.weight": (64, 64),
    "down.attn2.to_q.weight": (64, 64),
    "down.attn2.to_k.weight": (64, 96),
    "down.resnets.0.conv1.weight": (64, 64, 3, 3),
    "time_embedding.linear_1.weight": (64, 64),
    "tiny.weight": (4, 4),
    "conv_out.weight": (4, 64, 3, 3),
}


def _plan(default: str | None, **layers: str) -> dict[str, str]:
    named = {name.replace("__", "."): form for name, form in layers.items()}
    recipe = Recipe({"unet": LayerFormats(default, named)})
    return {name: form.name for name, form in recipe.plan("unet", _SHAPES).items()}


def test_full_names_count_before_patterns_and_patterns_before_the_default() -> None:
    recipe = Recipe(
        {
            "unet": LayerFormats(
                "palette6",
                {"*attn2*": "palette4", "*to_k*": "palette2", "down.attn2.to_q.weight": "float"},
            )
        }
    )
    plan = {name: form.name for name, form in recipe.plan("unet", _SHAPES).items()}
    assert plan["down.attn2.to_q.weight"] == "float"
    assert plan["down.attn2.to_k.weight"] == "palette4"
    assert plan["down.attn1.to_q.weight"] == "palette6"
    assert plan["conv_in.bias"] == plan["tiny.weight"] == "float"
    assert list(plan) == list(_SHAPES)


def test_components_that_are_not_named_stay() -> None:
    recipe = Recipe({"unet": LayerFormats("int8")})
    assert {form.name for form in recipe.plan("vae_decoder", _SHAPES).values()} == {"float"}


def test_names_that_fit_nothing_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"names \*attn3\*, which no weight of the unet is called"
    ):
        _plan("int8", **{"*attn3*": "int4"})
    # A bias has no format to choose.
    with pytest.raises(RecipeError, match="says nothing about conv_in"):
        _plan(None, **{"*attn*": "int4"})


def test_unknown_formats_and_components_are_refused() -> None:
    with pytest.raises(OptionError, match="no weight format 'int3'"):
        LayerFormats("int8", {"a": "int3"})
    with pytest.raises(RecipeError, match="component 'decoder'"):
        Recipe({"decoder": LayerFormats("int8")})


@pytest.mark.parametrize("name", ["palette6", "int8", "int4"])
def test_presets_of_weights_cover_everything(name: str) -> None:
    plan = preset_recipe(name, {"unet": _SHAPES}).plan("unet", _SHAPES)
    assert {form.name for key, form in plan.items() if "bias" not in key and key != "tiny.weight"}
    assert plan["conv_in.weight"].name == name


@pytest.mark.parametrize(
    ("name", "kernel", "matrix"),
    [
        ("int8-static", "int8-static", "int8-static"),
        ("fp8", "fp8", "fp8"),
        ("hybrid", "int8-static", "int8"),
        ("int8-dynamic", "int8", "int8-dynamic"),
    ],
)
def test_presets_of_activations_leave_the_edges(name: str, kernel: str, matrix: str) -> None:
    plan = preset_recipe(name, {"unet": _SHAPES}).plan("unet", _SHAPES)
    assert plan["down.resnets.0.conv1.weight"].name == kernel
    assert plan["down.attn1.to_q.weight"].name == matrix
    for edge in ("conv_in.weight", "conv_out.weight", "time_embedding.linear_1.weight"):
        assert plan[edge].name == "float"


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(OptionError, match=r"no weight format 'int9'; choose .*hybrid, or name a"):
        preset_recipe("int9", {"unet": _SHAPES})


def test_another_architecture_is_refused() -> None:
    recipe = Recipe({"unet": LayerFormats("int8")}, {"unet": "ab"}, {"model": "koala"})
    recipe.require_architecture({"unet": "ab", "vae_decoder": "x"}, "koala")
    with pytest.raises(RecipeError, match=r"another model: .*unet of 'small'.*made from 'koala'"):
        recipe.require_architecture({"unet": "cd"}, "small")


def test_json_there_and_back(tmp_path: Path) -> None:
    recipe = Recipe(
        {
            "unet": LayerFormats("int8", {"conv_in.weight": "float"}),
            "text_encoder": LayerFormats("int4"),
        },
        {"unet": "ab"},
        {"model": "koala"},
        {"image_psnr_db": 33.0, "unet_psnr_db": 40.0},
    )
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe.to_json()))
    assert read_recipe(file) == recipe


def test_the_short_form_is_of_the_unet(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text('{"default": 6, "*attn2*": null, "conv_in.weight": "int8", "*out*": 1}')
    (rules,) = read_recipe(file).components.values()
    assert rules.default == "palette6"
    assert dict(rules.layers) == {"*attn2*": "float", "conv_in.weight": "int8", "*out*": "palette1"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "must be a JSON object"),
        ('{"default": 5}', "8, 6, 4, 3, 2 or 1 bits, not 5"),
        ('{"default": true}', "8, 6, 4, 3, 2 or 1 bits, not True"),
        ('{"kdexport_recipe": 2, "components": {}}', "version 2"),
        ('{"kdexport_recipe": 1}', "no components"),
        ('{"kdexport_recipe": 1, "components": {}, "bits": 3}', "it has bits"),
        ('{"kdexport_recipe": 1, "components": {"unet": 3}}', "what it says of 'unet'"),
        ('{"kdexport_recipe": 1, "components": {"unet": {"rules": {}}}}', "what it says of 'unet'"),
        ('{"kdexport_recipe": 1, "components": {}, "made": 3}', "'made' must be a JSON object"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(text)
    with pytest.raises((RecipeError, OptionError), match=why):
        read_recipe(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read: No such file"):
        read_recipe(tmp_path / "none.json")


def test_what_is_no_recipe_is_refused() -> None:
    with pytest.raises(RecipeError, match="no components"):
        recipe_from_json({})
