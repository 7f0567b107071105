import pytest
from kdexport.core.errors import OptionError
from kdexport.core.options import ModelOptions, OnnxOptions, VerifyOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "no precision 'int4'; choose fp32, fp16, mixed or bf16"),
        ({"attention": "flash"}, "no attention 'flash'; choose fused, portable, sliced or native"),
        ({"opset": 17}, "Opset 17 is not supported; choose 18 to 24"),
        ({"attention": "native", "opset": 22}, "attention native needs opset 23 or newer, not 22"),
        ({"precision": "bf16", "opset": 21}, "precision bf16 needs opset 22 or newer, not 21"),
        ({"height": 512}, "needs both a height and a width"),
        ({"height": 0, "width": 64}, "height must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"slice_size": 0}, "slice size must be at least 1"),
        ({"max_steps": 0}, "max steps must be at least 1"),
    ],
)
def test_bad_export_options(options, message):
    with pytest.raises(OptionError, match=message):
        OnnxOptions(**options)


@pytest.mark.parametrize(
    ("options", "resolved"),
    [
        ({}, 21),
        ({"attention": "portable"}, 18),
        ({"attention": "sliced"}, 18),
        ({"attention": "native"}, 23),
        ({"attention": "portable", "opset": 20}, 20),
        ({"attention": "portable", "precision": "bf16"}, 22),
        ({"attention": "fused", "precision": "bf16"}, 22),
        ({"attention": "native", "precision": "bf16"}, 23),
        ({"attention": "native", "opset": 24}, 24),
    ],
)
def test_opset(options, resolved):
    assert OnnxOptions(**options).resolved_opset == resolved


@pytest.mark.parametrize(
    ("options", "message"),
    [({"steps": 0}, "at least 1, not 0"), ({"prompts": ()}, "at least one prompt")],
)
def test_bad_verify_options(options, message):
    with pytest.raises(OptionError, match=message):
        VerifyOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": ""}, "The base has no name"),
        ({"decoder": ""}, "The decoder has no name"),
        ({"variant": "../fp16"}, "'../fp16' is no variant of weight files"),
        ({"variant": "fp16.x"}, "is no variant"),
        ({"clip_skip": 0}, "clip-skip must be at least 1, not 0; leave it"),
        ({"clip_skip": -1}, "not -1"),
    ],
)
def test_bad_model_options(options, message):
    with pytest.raises(OptionError, match=message):
        ModelOptions(**options)
