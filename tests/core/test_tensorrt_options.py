from pathlib import Path

import pytest
from kdexport.core.errors import OptionError
from kdexport.core.tensorrt_options import TensorrtOptions


def test_defaults():
    options = TensorrtOptions()
    assert (options.gpus, options.engine, options.precision) == (("4090",), "rtx", "fp16")
    assert options.library == "tensorrt_rtx"


def test_native():
    options = TensorrtOptions(
        gpus=("this",),
        engine="native",
        timing_cache=Path("timings"),
        compatibility="same-capability",
        level=5,
    )
    assert options.library == "tensorrt"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "trtexec"}, "no kind of engine 'trtexec'; choose rtx or native"),
        ({"precision": "tf32"}, "no TensorRT precision 'tf32'; choose fp16, bf16 or fp32"),
        ({"precision": "fp8"}, "not fp8 but fp16, bf16 or fp32; choose --quantize fp8"),
        ({"attention": "fused"}, "no TensorRT attention 'fused'; choose portable or native"),
        ({"compatibility": "all"}, "no hardware compatibility 'all'; choose none, ampere-plus or"),
        ({"gpus": ()}, "give at least one, such as --gpu 4090"),
        ({"gpus": ("4090", "4099")}, "no GPU '4099' in the table"),
        ({"profile": ("depth=3",)}, "'depth=3' is no profile"),
        ({"profile": ("height=9,8,7",)}, "'9,8,7' is no range of sizes"),
        ({"max_steps": 0}, "number of steps must be at least 1, not 0"),
        ({"engine": "native", "level": 6}, "optimization level must be from 0 to 5, not 6"),
        ({"level": 3}, "TensorRT for RTX has no --level, .* choose --engine native"),
        ({"timing_cache": Path("x")}, "TensorRT for RTX has no --timing-cache"),
        ({"compatibility": "ampere-plus"}, "TensorRT for RTX has no --compatibility"),
    ],
)
def test_refused(options, message):
    with pytest.raises(OptionError, match=message):
        TensorrtOptions(**options)
