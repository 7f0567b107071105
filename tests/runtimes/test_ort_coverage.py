"""What ONNX Runtime computes in integers."""

import numpy as np
import pytest
from kdexport.core.errors import RunError
from kdexport.core.manifest import TensorSpec
from kdexport.runtimes.ort_coverage import Coverage, measure_coverage
from onnx import helper


def graph(tiny_bundle, path, pair):
    """A convolution whose input is quantized, and whose output is where `pair` says so."""
    random = np.random.default_rng(0)
    weights = {
        "conv.weight/codes": random.integers(-127, 127, (8, 4, 3, 3)).astype(np.int8),
        "conv.weight/scales": np.full(8, 0.01, np.float32),
        "conv.weight/zeros": np.zeros(8, np.int8),
        "scale": np.array(0.02, np.float32),
        "zero": np.array(128, np.uint8),
        "inner.plain.weight": random.standard_normal((8, 8, 1, 1), np.float32),
    }
    codes = ["conv.weight/codes", "conv.weight/scales", "conv.weight/zeros"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", codes, ["w"], axis=0),
        helper.make_node("Conv", ["d", "w"], ["c"], name="conv/Conv", pads=[1] * 4),
    ]
    last = "c"
    if pair:
        nodes += [
            helper.make_node("QuantizeLinear", ["c", "scale", "zero"], ["cq"]),
            helper.make_node("DequantizeLinear", ["cq", "scale", "zero"], ["cd"]),
        ]
        last = "cd"
    nodes += [
        helper.make_node("Sigmoid", [last], ["s"]),
        helper.make_node("Conv", ["s", "inner.plain.weight"], ["y"]),
    ]
    ports = [TensorSpec("x", "float32", ("batch", 4, 6, 6))]
    outputs = [TensorSpec("y", "float32", ("batch", 8, 6, 6))]
    return tiny_bundle.save_graph(path, nodes, ports, outputs, weights)


@pytest.mark.parametrize("pair", [True, False])
def test_integers_and_floats_are_told_apart(tiny_bundle, tmp_path, pair):
    coverage = measure_coverage(graph(tiny_bundle, tmp_path / "model.onnx", pair))
    assert coverage.asked == ("conv",)
    assert set(coverage.layers) == {"conv", "plain"}
    assert coverage.layers["conv"] == ("QLinearConv" if pair else "FusedConv")
    assert coverage.integer == (("conv",) if pair else ())
    # In silence, ONNX Runtime leaves a convolution alone whose output is not quantized.
    assert coverage.missed == (() if pair else ("conv",))
    text = coverage.describe()
    assert text.startswith("1 of 2 layers" if pair else "0 of 2 layers")
    assert ("though quantized: conv" in text) is not pair


def test_the_sentence():
    coverage = Coverage({"a": "QLinearConv", "b": "Conv", "c": "Conv"}, ("a", "b"))
    assert coverage.operators == {"Conv": 2, "QLinearConv": 1}
    assert coverage.describe() == (
        "1 of 3 layers in integers (2 Conv, 1 QLinearConv); in floats, though quantized: b"
    )


def test_no_model(tmp_path):
    with pytest.raises(RunError, match="cannot open"):
        measure_coverage(tmp_path / "model.onnx")
