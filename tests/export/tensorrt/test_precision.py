"""Number types that a GPU lacks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import OptionError
from kdexport.core.gpus import FIRST_CAPABILITY, GPUS
from kdexport.export.tensorrt.build import build_engine, check_request
from kdexport.export.tensorrt.graph import read_graph
from kdexport.export.tensorrt.precision import require_types
from onnx import TensorProto, helper, numpy_helper

HALF, FLOAT8 = TensorProto.FLOAT16, TensorProto.FLOAT8E4M3FN


@pytest.mark.parametrize(
    ("dtype", "capability", "message"),
    [
        (
            "bfloat16",
            (7, 5),
            r"^The model computes in bfloat16, which GPUs have from sm_80 on; sm_75 \(T4, 2080 Ti, "
            r"2080 Super and \d+ more\) has float32, float16 or int8; choose a newer GPU, or "
            r"export with --precision fp16\.$",
        ),
        ("float8", (8, 6), r"float8, which GPUs have from sm_89 on; sm_86 \(3090 Ti, "),
        ("int4", (7, 5), r"int4, which GPUs have from sm_80 on; .*, or quantize to int8 or int8-s"),
        ("float4", (8, 9), r"has float32, float16, int8, bfloat16, int4 or float8; choose a"),
    ],
)
def test_refusals(dtype, capability, message):
    with pytest.raises(OptionError, match=message):
        require_types({"float16", dtype}, capability, "The model")


@given(
    st.sets(st.sampled_from(["float32", "float16", "int8", "int64", *FIRST_CAPABILITY])),
    st.sampled_from(sorted({each.capability for each in GPUS.values()})),
)
def test_rule(dtypes, capability):
    lacking = [each for each in dtypes if capability < FIRST_CAPABILITY.get(each, (0, 0))]
    if lacking:
        with pytest.raises(OptionError, match=f"computes in ({'|'.join(lacking)}), which GPUs"):
            require_types(dtypes, capability, "The model")
    else:
        require_types(dtypes, capability, "The model")


@pytest.fixture
def quantized(graphs, tmp_path):
    """A product of 16 x 16 in float8, as quantizers write it: Q and DQ on both sides."""
    scale = numpy_helper.from_array(np.array(0.05, np.float16), "scale")
    drawn = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float16)
    nodes = []
    for name in ("x", "w"):
        zero = f"{name}_zero"
        nodes += [
            helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"], name=zero),
            helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_dq"]),
        ]
    nodes.append(helper.make_node("MatMul", ["x_dq", "w_dq"], ["y"], name="product"))
    weights = [scale, numpy_helper.from_array(drawn, "w")]
    weights.append(helper.make_tensor("zero", FLOAT8, (), [0.0]))
    port = (HALF, ("batch", 16))
    return graphs.save(tmp_path / "model.onnx", nodes, {"x": port}, {"y": port}, weights)


def test_float8(graphs, quantized, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    assert read_graph(quantized).dtypes >= {"float8", "float16"}
    ranges = {"x": ((1, 16), (2, 16), (4, 16))}
    old = graphs.request(quantized, (8, 6), ranges=ranges)
    message = r"The ONNX file of 'unet' computes in float8, .* sm_86 \(3090 Ti, .* or int4; "
    with pytest.raises(OptionError, match=message):
        build_engine(old, tmp_path / "old", print)
    assert not (tmp_path / "old").exists()
    build_engine(graphs.request(quantized, ranges=ranges), tmp_path / "new", lambda share: None)
    assert (tmp_path / "new").read_bytes().startswith(b"vtrt")


def test_bfloat16(graphs, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    path = graphs.linear(tmp_path / "model.onnx", dtype=TensorProto.BFLOAT16)
    check_request(graphs.request(path, (8, 0)))
    with pytest.raises(OptionError, match=r"computes in bfloat16, .*; sm_75 .* --precision fp16"):
        check_request(graphs.request(path, (7, 5)))
