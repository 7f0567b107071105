"""What may be asked of weights of few bits, and which gates hold for them."""

from dataclasses import replace

import pytest
from kdexport.core.compare import GATES, gated_as, weakest
from kdexport.core.errors import CalibrationError, OptionError, RecipeError
from kdexport.core.formats import FORMATS
from kdexport.core.manifest import Component
from kdexport.core.options import OnnxOptions
from kdexport.core.quantization import Quantization
from kdexport.core.ranges import LayerRange, TensorRange
from kdexport.core.recipe import LayerFormats, Recipe

ANY = TensorRange(-1.0, 1.0, 1.0, 1.0)
RANGES = {"conv_in": LayerRange(ANY, ANY)}


def quantization(form, role="unet", layers=None, ranges=None, activations="unsigned"):
    recipe = Recipe({role: LayerFormats(form, layers or {})})
    return Quantization("test", recipe, ranges, activations)


def test_formats_are_named_once_and_in_order():
    recipe = Recipe(
        {
            "unet": LayerFormats("int8", {"a.*": "int4", "b.*": "float"}),
            "text_encoder": LayerFormats("int8"),
        }
    )
    made = Quantization("test", recipe)
    assert [form.name for form in made.formats] == ["float", "int8", "int4"]
    assert [form.name for form in made.formats_of("text_encoder")] == ["int8"]
    assert made.formats_of("vae_decoder") == ()
    shapes = dict.fromkeys(("a.weight", "b.weight", "c.weight"), (64, 64))
    formats = made.plan("unet", shapes).values()
    assert [form.name for form in formats] == ["int4", "float", "int8"]


@pytest.mark.parametrize("form", ["int8-static", "fp8"])
def test_static_formats_need_ranges(form):
    with pytest.raises(CalibrationError, match=rf"The format {form} needs to know the ranges"):
        quantization("int8", layers={"a": form})
    with pytest.raises(CalibrationError, match=rf"The controlnet cannot be {form}: only the act"):
        quantization(form, role="controlnet", ranges=RANGES)
    assert quantization(form, ranges=RANGES).ranges == RANGES


def test_activations_are_one_of_two():
    with pytest.raises(OptionError, match="no 'both' activations; choose unsigned or signed"):
        quantization("int8", activations="both")


@pytest.mark.parametrize(
    ("form", "activations", "message"),
    [
        ("palette6", "unsigned", "ONNX has no palettes and no sparse weights, so there is no pal"),
        ("sparse50-palette6", "signed", "choose float, int8, int4, int8-dynamic, int8-static or"),
        ("fp8", "unsigned", "ONNX Runtime does not compute with 8-bit floating-point numbers"),
        ("int8-dynamic", "signed", "TensorRT does not find ranges at run time"),
    ],
)
def test_what_onnx_lacks(form, activations, message):
    made = quantization(form, ranges=RANGES, activations=activations)
    with pytest.raises(RecipeError, match=message):
        OnnxOptions(quantization=made)


@pytest.mark.parametrize(
    ("form", "options", "opset"),
    [
        ("int8", {"attention": "portable"}, 18),
        ("int8", {"attention": "portable", "precision": "fp16"}, 19),
        ("int4", {"attention": "portable"}, 21),
        ("int8", {}, 21),
        ("float", {"attention": "portable", "precision": "fp16"}, 18),
        ("int8", {"precision": "bf16"}, 22),
        ("int4", {"opset": 23}, 23),
    ],
)
def test_opsets(form, options, opset):
    made = OnnxOptions(quantization=quantization(form), **options)
    assert made.resolved_opset == opset
    signed = quantization("fp8", ranges=RANGES, activations="signed")
    assert OnnxOptions(attention="portable", quantization=signed).resolved_opset == 19


def test_an_opset_that_is_too_old():
    with pytest.raises(OptionError, match="'test' need opset 21 or newer in fp32, not 18; leave"):
        OnnxOptions(attention="portable", opset=18, quantization=quantization("int4"))


COMPONENT = Component("unet", "unet/model.onnx", "fp32", (), (), 1)


@pytest.mark.parametrize(
    ("precision", "compression", "graded"),
    [
        ("fp32", None, "fp32"),
        ("fp32", {"formats": {"int8": 3, "int4": 1}}, "int4"),
        ("bf16", {"formats": {"int8": 3}}, "int8"),
        ("fp16", {"method": "k-means palettes", "bits": 6, "weights": 2}, "palette6"),
        ("fp16", {"bits": 4, "formats": {"palette8": 1, "palette4-grouped": 2}}, "palette4"),
        ("fp16", {"bits": 8, "formats": {}}, "palette8"),
    ],
)
def test_the_coarsest_format_decides_the_gates(precision, compression, graded):
    component = replace(COMPONENT, precision=precision, compression=compression)
    assert component.graded == graded


def test_every_format_has_gates():
    assert {gated_as(name) for name in FORMATS} - {"float"} <= set(GATES)
    assert weakest(["fp32", "int8-static", "palette8"]) == "int8-static"
    with pytest.raises(OptionError, match="no parity gates for 'int3'"):
        weakest(["fp32", "int3"])
