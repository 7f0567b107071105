import pytest
from kdexport.core.coreml_formats import formats_of
from kdexport.core.coreml_options import CoremlOptions
from kdexport.core.errors import OptionError
from kdexport.core.quantization import Quantization
from kdexport.core.ranges import LayerRange, TensorRange
from kdexport.core.recipe import LayerFormats, Recipe


@pytest.mark.parametrize(
    ("attention", "units", "slices"),
    [
        ("original", "cpu-and-gpu", None),
        ("split-einsum", "cpu-and-neural-engine", None),
        ("split-einsum-v2", "cpu-and-neural-engine", 512),
    ],
)
def test_what_follows_from_the_attention(attention, units, slices):
    options = CoremlOptions(attention=attention)
    assert (options.resolved_units, options.resolved_slice) == (units, slices)
    assert CoremlOptions(attention=attention, compute_units="all").resolved_units == "all"


def test_slices():
    assert CoremlOptions(attention="original", slice_size=64).resolved_slice == 64
    assert CoremlOptions(attention="split-einsum-v2", slice_size=64).resolved_slice == 64
    assert CoremlOptions(attention="sdpa", target="iOS18").resolved_slice is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "mixed"}, "no Core ML precision 'mixed'; choose fp16 or fp32"),
        ({"attention": "fused"}, "no Core ML attention 'fused'; choose original, split-einsum"),
        ({"target": "macOS13"}, "no deployment target 'macOS13'; choose iOS16, iOS17 or iOS18"),
        ({"compute_units": "gpu"}, "no set of compute units 'gpu'; choose all, cpu-and-neural"),
        ({"attention": "sdpa"}, "operation of iOS18, and the target is iOS17; choose --target"),
        ({"slice_size": 8}, "'split-einsum' has no slices; leave --slice-size out or choose orig"),
        ({"attention": "original", "slice_size": 0}, "slice size must be at least 1, not 0"),
        ({"rows": 3}, "batch has 1 or 2 rows, not 3"),
        ({"quantization": "palette6", "precision": "fp32"}, "Compressed weights become float16"),
        ({"quantization": "palette3"}, "'palette3' came with iOS18, and the target is iOS17"),
        (
            {"quantization": "int4", "target": "iOS16"},
            "'int4' came with iOS18, and the target is i",
        ),
        ({"quantization": "fp8"}, "Core ML lacks the format 'fp8': it has no 8-bit floating"),
        ({"quantization": "int8-dynamic"}, "lacks the format 'int8-dynamic': it finds no ranges"),
        ({"sizes": ((512, 512), (512, 512))}, "A size was given twice"),
        ({"sizes": ((8, 8), (8, 16)), "chunk": True}, "A U-Net in chunks takes one size only"),
        (
            {"sizes": ((8, 8), (8, 16)), "attention": "split-einsum-v2"},
            "Attention in slices takes one size only",
        ),
        ({"sizes": ((512, 0),)}, "Sizes and numbers of steps must be at least 1, not 0"),
        ({"max_steps": 0}, "Sizes and numbers of steps must be at least 1, not 0"),
    ],
)
def test_refused(options, message):
    if "quantization" in options:
        options = {**options, "quantization": quantization(options["quantization"])}
    with pytest.raises(OptionError, match=message):
        CoremlOptions(**options)


@pytest.mark.parametrize("target", ["iOS16", "iOS17", "iOS18"])
def test_formats_of_targets(target):
    for name in formats_of(target):
        assert CoremlOptions(quantization=quantization(name), target=target)


def quantization(name):
    layer = TensorRange(-1, 1, 1, 1)
    recipe = Recipe({"unet": LayerFormats("float", {"conv_in.weight": name})})
    return Quantization(name, recipe, {"conv_in": LayerRange(layer, layer)})
