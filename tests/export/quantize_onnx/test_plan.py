"""What is checked before anything is written, and what the manifest says afterwards."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from kdexport.core.checkpoint import ComponentSource
from kdexport.core.errors import CalibrationError, ExportError, RecipeError
from kdexport.core.formats import FORMATS
from kdexport.core.options import OnnxOptions
from kdexport.core.quantization import Quantization
from kdexport.core.ranges import LayerRange, TensorRange
from kdexport.core.recipe import LayerFormats, Recipe
from kdexport.export.cost import component_costs, layer_macs
from kdexport.export.quantize_onnx.layers import find_layers, require_known_uses
from kdexport.export.quantize_onnx.plan import PartPlan, part_shapes, plan_parts
from kdexport.export.quantize_onnx.quantized import Quantized
from kdexport.export.skeleton import build_skeleton, parameter_shapes
from kdexport.export.weights import open_weights

ANY = TensorRange(-1.0, 1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def pipeline(micro, tmp_path_factory):
    """A U-Net and a VAE: (checkpoint, parts, weights)."""
    import torch

    folder = tmp_path_factory.mktemp("plans")
    unet, _ = micro.save(folder, "unet", "UNet2DConditionModel", micro.UNET)
    vae, _ = micro.save(folder, "vae", "AutoencoderKL", micro.VAE)
    sources = {"unet": unet, "vae": vae}
    weights = {
        name: open_weights(each, parameter_shapes(build_skeleton(each, torch.float32)))
        for name, each in sources.items()
    }
    parts = [
        SimpleNamespace(role=r, component=c) for r, c in (("unet", "unet"), ("vae_decoder", "vae"))
    ]
    return SimpleNamespace(component=sources.__getitem__), parts, weights


def plan(pipeline, components, ranges=None):
    checkpoint, parts, weights = pipeline
    recipe = Recipe({role: LayerFormats(*rules) for role, rules in components.items()})
    options = OnnxOptions(quantization=Quantization("test", recipe, ranges))
    return plan_parts(checkpoint, parts, weights, options, (8, 8))


def test_plans(pipeline):
    assert plan_parts(*pipeline, OnnxOptions(), (8, 8)) == {}
    plans = plan(pipeline, {"unet": ("int8", {"*.ff.*": "int4"}), "vae_decoder": ("int8", {})})
    assert set(plans) == {"unet", "vae_decoder"}
    formats = plans["unet"].formats
    assert formats["down_blocks.0.resnets.0.conv1.weight"].name == "int8"
    assert formats["conv_in.bias"].name == "float"
    assert all(
        name.startswith(("decoder.", "post_quant_conv.")) for name in plans["vae_decoder"].formats
    )
    assert any(name.startswith("decoder.") for name in plans["vae_decoder"].macs)
    assert not plans["unet"].standard
    # A recipe that leaves everything alone is no plan.
    assert plan(pipeline, {"unet": ("float", {})}) == {}
    # The encoder is not exported unless it is asked for.
    assert set(plan(pipeline, {"unet": ("int8", {}), "vae_encoder": ("int8", {})})) == {"unet"}


@pytest.mark.parametrize(
    ("components", "ranges", "error", "message"),
    [
        ({"controlnet": ("int8", {})}, None, RecipeError, "about the controlnet, which this"),
        (
            {"unet": ("int8", {"nothing.*": "int4"})},
            None,
            RecipeError,
            "nothing.*, which no weight",
        ),
        (
            {"unet": ("int8-dynamic", {})},
            None,
            RecipeError,
            "for linear layers, and .*conv1.weight.* are kernels",
        ),
        (
            {"unet": ("int8-static", {})},
            {"conv_in": LayerRange(ANY, ANY)},
            CalibrationError,
            "says nothing about the activations of time_emb",
        ),
    ],
)
def test_refusals(pipeline, components, ranges, error, message):
    with pytest.raises(error, match=message):
        plan(pipeline, components, ranges)


def test_the_manifest_says_what_share_is_quantized():
    macs = {"a": 30, "b": 60, "c": 10}
    made = PartPlan(
        formats={}, ranges={}, signed=False, standard=False, recipe="mixed", expected={}, macs=macs
    )
    layers = [("a", "int8"), ("b", "int4"), ("c", "float")]
    record = made.record([Quantized(name, form, 1, 1) for name, form in layers])
    assert record == {
        "recipe": "mixed",
        "formats": {"int4": 1, "int8": 1},
        "layers": {"quantized": 2, "all": 3},
        "macs": 0.9,
    }
    reached = {"unet_psnr_db": 40.0, "image_psnr_db": 30.0}
    assert replace(made, expected=reached).record([])["expected"] == reached


def test_macs_by_layer_add_up(micro, tmp_path):
    source, module = micro.save(tmp_path, "unet", "UNet2DConditionModel", micro.UNET)
    macs = layer_macs(source, 8, 16)["unet"]
    assert macs["conv_in"] == 8 * 16 * 16 * 4 * 9
    # Beside layer norms, which multiply as well.
    norms = [name for name, each in module.named_modules() if "LayerNorm" in type(each).__name__]
    assert norms
    total = component_costs(source, 8, 16)["unet"].macs
    assert 0 < total - sum(macs.values()) < 0.01 * total
    names = parameter_shapes(module)
    assert all(f"{name}.weight" in names for name in macs)
    assert {f"{name}.weight" for name in macs} == {
        name for name, shape in names.items() if len(shape) > 1
    }


def test_parts_of_a_vae_share_nothing(micro, tmp_path):
    import torch

    source, _ = micro.save(tmp_path, "vae", "AutoencoderKL", micro.VAE)
    assert isinstance(source, ComponentSource)
    shapes = parameter_shapes(build_skeleton(source, torch.float32))
    weights = open_weights(source, shapes)
    decoder, encoder = (part_shapes(f"vae_{side}", weights) for side in ("decoder", "encoder"))
    assert not set(decoder) & set(encoder)
    assert set(decoder) | set(encoder) == set(shapes)
    for side, own in (("decoder", decoder), ("encoder", encoder)):
        assert {f"{name}.weight" for name in layer_macs(source, 8, 8)[f"vae_{side}"]} <= set(own)


def test_a_weight_that_has_no_form(small, tmp_path):
    """A weight with a format that is neither of a layer nor a table."""
    import onnx_ir as ir
    from kdexport.export.weights import Weights

    weight = ir.Value(name="inner.x.weight", shape=ir.Shape([64, 64]))
    node = ir.node("Mul", [weight, weight])
    graph = ir.Graph([], node.outputs, nodes=[node], opset_imports={"": 21})
    graph.initializers.add(weight)
    model = ir.Model(graph, ir_version=10)
    layers = find_layers(model, Weights({}), {})
    assert layers == []
    with pytest.raises(ExportError, match=r"no ONNX form of x.weight \(Mul\) with few bits"):
        require_known_uses(model, {"x.weight": FORMATS["int8"]}, layers)
    require_known_uses(model, {"x.weight": FORMATS["float"]}, layers)
