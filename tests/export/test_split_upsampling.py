"""Upsampling and convolution in four phases, against torch, ONNX Runtime and OpenVINO."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.export.passes.split_upsampling import split_upsampling
from onnx import helper, numpy_helper

PLAIN = ("large", "weight")


def nearest(**changes):
    attributes = {
        "mode": "nearest",
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
    }
    return helper.make_node("Resize", ["x", "", "scales"], ["large"], **(attributes | changes))


def convolution(inputs=("large", "weight", "bias"), **changes):
    return helper.make_node("Conv", list(inputs), ["y"], **({"pads": [1, 1, 1, 1]} | changes))


def graph(weight, bias=None, scales=(1, 1, 2, 2), resize=None, conv=None, others=(), channels=None):
    """A ModelProto: upsampling, then a convolution."""
    names = PLAIN if bias is None else (*PLAIN, "bias")
    arrays = {"weight": weight, "scales": np.array(scales, np.float32)}
    arrays |= {} if bias is None else {"bias": bias}
    dtype = helper.np_dtype_to_tensor_dtype(weight.dtype)
    made = helper.make_graph(
        [resize or nearest(), *others, conv or convolution(names)],
        "graph",
        [helper.make_tensor_value_info("x", dtype, ["n", channels or weight.shape[1], "h", "w"])],
        [helper.make_tensor_value_info("y", dtype, ["n", weight.shape[0], "h2", "w2"])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def split(proto):
    """What the pass makes of a graph, checked."""
    model = ir.from_proto(proto)
    split_upsampling(model)
    result = ir.to_proto(model)
    onnx.checker.check_model(result, full_check=True)
    return result


def operators(proto):
    return [node.op_type for node in proto.graph.node if node.op_type != "Constant"]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def run(proto, x):
    return ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]


def by_torch(x, weight, bias):
    tensors = [None if each is None else torch.from_numpy(each) for each in (x, weight, bias)]
    large = torch.nn.functional.interpolate(tensors[0].double(), scale_factor=2.0, mode="nearest")
    weights = [None if each is None else each.double() for each in tensors[1:]]
    return torch.nn.functional.conv2d(large, *weights, padding=1).numpy()


sizes = st.integers(1, 5)


@settings(max_examples=40)
@given(sizes, sizes, sizes, sizes, sizes, st.booleans(), st.integers(0, 2**32 - 1))
def test_draws_the_same(rows, inputs, outputs, height, width, biased, seed):
    weight = normal(outputs, inputs, 3, 3, seed=seed)
    bias = normal(outputs, seed=seed + 1) if biased else None
    x = normal(rows, inputs, height, width, seed=seed + 2)
    made = split(graph(weight, bias))
    assert operators(made).count("Conv") == 4
    assert "Resize" not in operators(made)
    expected = by_torch(x, weight, bias)
    np.testing.assert_allclose(run(made, x), expected, atol=2e-5)
    assert run(made, x).shape == expected.shape


def test_weights_stay_as_they_are():
    weight = normal(6, 4, 3, 3)
    made = split(graph(weight, normal(6)))
    stored = {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}
    assert set(stored) == {"weight", "bias"}
    assert (stored["weight"] == weight).all()


def test_engines_compute_the_sums_once(tmp_path):
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    # Above, convolutions would be in a layout of their own.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    made = split(graph(normal(8, 8, 3, 3), normal(8)))
    ort.InferenceSession(made.SerializeToString(), options)
    left = operators(onnx.load(tmp_path / "optimized.onnx"))
    assert sorted(left) == ["Concat", *["Conv"] * 4, "DepthToSpace"]


def test_in_openvino():
    openvino = pytest.importorskip("openvino")
    weight, bias, x = normal(6, 4, 3, 3), normal(6), normal(2, 4, 5, 3)
    core = openvino.Core()
    model = core.read_model(split(graph(weight, bias)).SerializeToString())
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled([x])[0], by_torch(x, weight, bias), atol=2e-5)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"scales": (1, 1, 3, 3)}, "three times"),
        ({"scales": (1, 1, 2, 1)}, "one axis"),
        ({"resize": nearest(mode="linear")}, "interpolated"),
        ({"resize": nearest(nearest_mode="ceil")}, "other pixels"),
        ({"resize": nearest(coordinate_transformation_mode="half_pixel")}, "other coordinates"),
        ({"conv": convolution(PLAIN, strides=[2, 2])}, "strides"),
        ({"conv": convolution(PLAIN, dilations=[2, 2])}, "dilations"),
        ({"conv": convolution(PLAIN, pads=[0, 0, 0, 0])}, "no border"),
        ({"conv": convolution(("x", "large"))}, "the image is the kernel"),
        ({"others": [helper.make_node("Relu", ["large"], ["z"])]}, "used twice"),
        ({"weight": normal(4, 4, 1, 1), "conv": convolution(PLAIN, pads=[0] * 4)}, "1x1"),
        (
            {"weight": normal(4, 2, 3, 3), "conv": convolution(PLAIN, group=2), "channels": 4},
            "groups",
        ),
        ({"weight": normal(4, 4, 3, 3).astype(np.float16)}, "half precision"),
        ({"weight": normal(4, 4, 3, 3), "conv": convolution(("large", "z"))}, "computed weights"),
    ],
)
def test_what_is_left_alone(changes, why):
    weight = changes.pop("weight", normal(4, 4, 3, 3))
    if why == "computed weights":
        changes["others"] = [helper.make_node("Identity", ["weight"], ["z"])]
    proto = graph(weight, **changes)
    before = ir.to_proto(ir.from_proto(proto))
    model = ir.from_proto(proto)
    split_upsampling(model)
    assert "DepthToSpace" not in operators(ir.to_proto(model))
    assert operators(ir.to_proto(model)).count("Conv") == operators(before).count("Conv") == 1
