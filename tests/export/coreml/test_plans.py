"""What a recipe says of the weights of a Core ML program."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.coreml_options import COREML_ATTENTIONS, CoremlOptions
from kdexport.core.errors import RecipeError
from kdexport.core.recipe import LayerFormats, Recipe
from kdexport.export.coreml.bundle import load_weights
from kdexport.export.coreml.convert import to_program
from kdexport.export.coreml.layer_names import identifier
from kdexport.export.coreml.parts import coreml_parts
from kdexport.export.coreml.plans import plan_of, recipe_weights, with_dots
from kdexport.export.coreml.program_weights import program_weights
from kdexport.export.load import load_checkpoint
from kdexport.export.skeleton import build_skeleton, parameter_shapes
from kdexport.export.weights import open_weights

WEIGHTS = {
    "conv_in.weight": (64, 4, 3, 3),
    "conv_in.bias": (64,),
    "blocks.0.attn1.to_q.weight": (64, 64),
    "blocks.0.attn2.to_q.weight": (64, 64),
    "blocks.0.attn2.to_out.0.weight": (64, 64),
    "blocks.0.time_emb_proj.weight": (64, 64),
    "conv_out.weight": (4, 64, 3, 3),
}
LARGE = [name for name, shape in WEIGHTS.items() if len(shape) > 1]


def planned(layers, default="palette6"):
    plan = plan_of(Recipe({"unet": LayerFormats(default, layers)}), "unet", WEIGHTS)
    return {name: form.name for name, form in plan.items()}


def test_a_plan():
    layers = {"*.attn2.*": "palette8", "blocks.0.attn2.to_q.weight": "int8", "conv_*": "float"}
    assert planned(layers) == {
        "blocks.0.attn1.to_q.weight": "palette6",
        "blocks.0.attn2.to_q.weight": "int8",
        "blocks.0.attn2.to_out.0.weight": "palette8",
        "blocks.0.time_emb_proj.weight": "palette6",
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("conv_in_weight", "conv_in.weight"),
        ("*_attn2_*", "*.attn2.*"),
        ("blocks_0_attn[12]_to_q_weight", "blocks.0.attn[12].to_q.weight"),
        ("*time_emb_proj_weight", "*time_emb_proj.weight"),
        ("blocks_?_attn2*", "blocks.?.attn2*"),
    ],
)
def test_names_with_underscores(old, new):
    assert planned({old: "palette2"}) == planned({new: "palette2"}) != planned({})


def test_names_with_dots_come_first():
    """A pattern that fits with dots is taken as it is."""
    recipe = Recipe({"unet": LayerFormats("palette6", {"*_q.weight": "palette2"})})
    assert with_dots(recipe, "unet", WEIGHTS) == recipe
    assert with_dots(recipe, "controlnet", WEIGHTS) is recipe


@given(st.sets(st.sampled_from(LARGE)), st.sets(st.sampled_from(LARGE)))
def test_any_names_with_underscores(dotted, flat):
    layers = dict.fromkeys(dotted - flat, "int8") | {identifier(name): "int4" for name in flat}
    plan = planned(layers)
    assert {name for name in plan if plan[name] == "int4"} == flat
    assert {name for name in plan if plan[name] == "int8"} == dotted - flat
    assert set(plan) == set(LARGE)


@pytest.mark.parametrize(
    ("layers", "default", "message"),
    [
        ({"conv_inn_weight": "palette8"}, "palette6", "names conv_inn_weight, which no weight of"),
        ({"*_attn3_*": "palette8"}, "palette6", r"names \*_attn3_\*, which no weight of the unet"),
        ({"conv_*": "palette8"}, None, "nothing about blocks.0.attn1.to_q.weight, blocks.0.attn2"),
    ],
)
def test_recipes_that_do_not_fit(layers, default, message):
    with pytest.raises(RecipeError, match=message):
        planned(layers, default)


def test_components_that_are_not_named_stay():
    assert plan_of(Recipe({"unet": LayerFormats("int8")}), "vae_decoder", WEIGHTS) == {}


# Each attention once, and each kind of component.
CASES = [
    ("sdxs-512-dreamshaper-sketch", "split-einsum", ("controlnet", "vae_decoder", "vae_encoder")),
    ("sdxs-512-dreamshaper-sketch", "original", ("text_encoder", "controlnet")),
    ("bk-sdm-small", "split-einsum-v2", ("vae_decoder", "vae_encoder")),
    ("koala-700m", "sdpa", ("text_encoder", "text_encoder_2", "vae_decoder")),
]


@pytest.mark.parametrize(("model", "attention", "roles"), CASES)
def test_a_recipe_can_name_what_the_program_has(narrow, model, attention, roles):
    """All weights of convolutions and linear layers, and no others; test_coreml_rows: U-Nets."""
    checkpoint = load_checkpoint(str(narrow(model)))
    target = "iOS18" if attention == "sdpa" else "iOS16"
    options = CoremlOptions(attention=attention, target=target, with_encoder=True)
    for part in coreml_parts(checkpoint, options, 1):
        if part.role not in roles:
            continue
        module = wrapped(part, checkpoint)
        shapes = {name: shape for name, shape in recipe_weights(module).items() if shape[1:]}
        program = to_program(module, [{"height": 8, "width": 8}], target)
        stored = {
            each.inputs["weight"].name: each.inputs["weight"].shape
            for each in program.functions["main"].operations
            if each.op_type in ("conv", "linear")
        }
        assert set(stored) == {identifier(name) for name in shapes}
        for name, shape in shapes.items():
            # A linear layer may be a convolution.
            ones = (1,) * (len(stored[identifier(name)]) - len(shape))
            assert stored[identifier(name)] == (*shape, *ones)
        assert set(program_weights(program)) <= set(stored)


def wrapped(part, checkpoint):
    source = checkpoint.component(part.component)
    inner = build_skeleton(source, torch.float32)
    load_weights(inner, open_weights(source, parameter_shapes(inner)))
    return part.wrap(inner)


def test_every_attention_is_there():
    assert {attention for _, attention, _ in CASES} == set(COREML_ATTENTIONS)
