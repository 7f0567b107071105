"""Weights of few bits on the CPU: floats when the model is opened, or in every run."""

from __future__ import annotations

import numpy as np
import pytest
from kdexport.runtimes.onnx_operators import only_weights_are_integers, operators
from kdexport.runtimes.ort import OrtRunner
from kdexport.runtimes.ort_cpu import cpu_session
from kdexport.runtimes.ort_options import OrtOptions
from kdexport.runtimes.registry import Engine
from onnx import TensorProto, helper, numpy_helper


def save(path, nodes, constants):
    tensors = [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 16, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((2, 16, 5, 5), dtype=np.float32)
CONSTANTS = {
    "codes": RANDOM.integers(-127, 127, (24, 16, 3, 3)).astype(np.int8),
    "scales": (1 + RANDOM.random(24, np.float32)) / 100,
    "zeros": np.zeros(24, np.int8),
    "step": np.float32(0.03),
    "zero": np.uint8(128),
}
WEIGHT = helper.make_node("DequantizeLinear", ["codes", "scales", "zeros"], ["w"], axis=0)
PAIR = [
    helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
    helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
]
OUTPUT = [
    helper.make_node("QuantizeLinear", ["c", "step", "zero"], ["cq"]),
    helper.make_node("DequantizeLinear", ["cq", "step", "zero"], ["y"]),
]


def conv(source, result):
    return helper.make_node("Conv", [source, "w"], [result], name="conv")


@pytest.fixture
def weights_only(tmp_path):
    return save(tmp_path / "weights.onnx", [WEIGHT, conv("x", "y")], CONSTANTS)


@pytest.fixture
def static(tmp_path):
    nodes = [*PAIR, WEIGHT, conv("d", "c"), *OUTPUT]
    return save(tmp_path / "static.onnx", nodes, CONSTANTS)


def optimized(model, tmp_path, options):
    """The operators that a session runs."""
    from kdexport.runtimes import ort_cpu

    original = ort_cpu.session_options

    def saving(*arguments):
        settings = original(*arguments)
        settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        return settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ort_cpu, "session_options", saving)
        cpu_session(model, options)
    return operators(tmp_path / "optimized.onnx")


def run(model, **options):
    with OrtRunner(model, OrtOptions(threads=1, **options)) as runner:
        return runner.run({"x": X})["y"]


def test_weights_are_folded_unless_memory_is_low(weights_only, tmp_path):
    folded = optimized(weights_only, tmp_path, OrtOptions())
    assert "DequantizeLinear" not in folded
    assert "DequantizeLinear" in optimized(weights_only, tmp_path, OrtOptions(low_memory=True))
    difference = run(weights_only) - run(weights_only, low_memory=True)
    assert np.abs(difference).max() < 1e-5 * np.abs(run(weights_only)).max()


@pytest.mark.parametrize("low_memory", [False, True])
def test_what_computes_in_integers_still_does(static, tmp_path, low_memory):
    found = optimized(static, tmp_path, OrtOptions(low_memory=low_memory))
    assert "QLinearConv" in found
    np.testing.assert_array_equal(run(static), run(static, low_memory=low_memory))


def test_who_has_integer_weights_only(weights_only, static, tmp_path):
    assert only_weights_are_integers(weights_only)
    assert not only_weights_are_integers(static)
    floats = save(tmp_path / "floats.onnx", [conv("x", "y")], {"w": np.ones((2, 16, 1, 1))})
    assert not only_weights_are_integers(floats)
    dynamic = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
        WEIGHT,
        conv("x", "y"),
    ]
    assert not only_weights_are_integers(save(tmp_path / "dynamic.onnx", dynamic, CONSTANTS))


def test_operators_of_bodies_count(tmp_path):
    body = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["s", "step", "zero"], ["q"])],
        "body",
        [helper.make_tensor_value_info("s", TensorProto.FLOAT, [16, 5, 5])],
        [helper.make_tensor_value_info("q", TensorProto.UINT8, [16, 5, 5])],
    )
    nodes = [WEIGHT, helper.make_node("Scan", ["x"], ["y"], body=body, num_scan_inputs=1)]
    path = save(tmp_path / "scan.onnx", nodes, CONSTANTS)
    assert operators(path) == {"DequantizeLinear", "Scan", "QuantizeLinear"}
    assert not only_weights_are_integers(path)


def test_what_is_no_model_has_no_operators(tmp_path):
    assert operators(tmp_path / "none.onnx") == frozenset()
    path = tmp_path / "broken.onnx"
    for content in (b"", b"not a model", b"\x3a\xff", b"\x3a\x06\x0a\x04\x22\x02\xff\xfe"):
        path.write_bytes(content)
        assert operators(path) == frozenset()


@pytest.mark.parametrize("low_memory", [False, True])
def test_a_pipeline_passes_it_on(sd, low_memory):
    runner = Engine("onnxruntime", "cpu", low_memory=low_memory, cached=True).runner("model.onnx")
    assert runner.options == OrtOptions(low_memory=low_memory, cached=True)
    with pytest.raises(AttributeError):
        runner.options.low_memory = True
