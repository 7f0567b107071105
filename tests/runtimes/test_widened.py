"""bfloat16 models in float32 arithmetic, against NumPy with ml_dtypes."""

import sys

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import DependencyError, RunError
from kdexport.runtimes.widened import holds_bfloat16, session_source, widened
from onnx import TensorProto, helper, numpy_helper

FLOAT, BFLOAT16 = TensorProto.FLOAT, TensorProto.BFLOAT16


def rounded(array):
    return np.asarray(array, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def save(path, nodes, weights, dtype=FLOAT, outputs=("y",)):
    """A graph of `x` `(rows, 16)`, its weights outside the file."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", dtype, ["rows", 16])],
        [helper.make_tensor_value_info(name, dtype, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 22)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=100)
    return path


def run(path, x):
    options = ort.SessionOptions()
    source = session_source(path, options)
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


@pytest.fixture
def product(tmp_path):
    """Four products, as a model in bfloat16 with edges in float32."""
    weights = {f"w{i}": draw(16, 16).astype(ml_dtypes.bfloat16) for i in range(4)}
    nodes = [helper.make_node("Cast", ["x"], ["h0"], to=BFLOAT16)]
    for i in range(4):
        nodes.append(helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"p{i}"]))
        nodes.append(helper.make_node("Reshape", [f"p{i}", "shape"], [f"h{i + 1}"]))
    nodes.append(helper.make_node("Cast", ["h4"], ["y"], to=FLOAT))
    weights["shape"] = np.array([-1, 16])
    return save(tmp_path / "model.onnx", nodes, weights)


def test_every_result_is_rounded(product):
    x = 1 + draw(5, 16) / 1000
    graph = onnx.load(product).graph
    expected = rounded(x)
    unrounded = x
    for tensor in graph.initializer[:4]:
        weight = numpy_helper.to_array(tensor).astype(np.float32)
        expected, unrounded = rounded(expected @ weight), unrounded @ weight
    result = run(product, x)[0]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)
    assert np.abs(unrounded - expected).max() > 0


def test_onnx_runtime_cannot_run_it_as_it_is(product):
    """Where this fails, ONNX Runtime has learned bfloat16, and the module is to go."""
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        ort.InferenceSession(product, providers=["CPUExecutionProvider"])


def test_what_stays_in_float32_is_not_rounded(tmp_path):
    nodes = [
        helper.make_node("Sin", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["b"], to=BFLOAT16),
        helper.make_node("Add", ["b", "one"], ["a"]),
        helper.make_node("Cast", ["a"], ["f"], to=FLOAT),
        helper.make_node("Mul", ["f", "s"], ["y"]),
        helper.make_node("Shape", ["a"], ["n"]),
        helper.make_node("Cast", ["n"], ["z"], to=FLOAT),
    ]
    one = np.ones((), ml_dtypes.bfloat16)
    path = save(tmp_path / "model.onnx", nodes, {"one": one}, outputs=("y", "z"))
    x = draw(3, 16)
    y, z = run(path, x)
    sine = np.sin(x)
    np.testing.assert_allclose(y, rounded(rounded(sine) + 1) * sine, rtol=1e-6)
    np.testing.assert_array_equal(z, [3, 16])


def test_bodies_of_loops(tmp_path):
    body = helper.make_graph(
        [helper.make_node("Mul", ["row", "wide"], ["scaled"])],
        "body",
        [helper.make_tensor_value_info("row", BFLOAT16, [16])],
        [helper.make_tensor_value_info("scaled", BFLOAT16, [16])],
    )
    nodes = [
        helper.make_node("Cast", ["x"], ["b"], to=BFLOAT16),
        helper.make_node("Add", ["w", "w"], ["wide"]),
        helper.make_node("Scan", ["b"], ["s"], body=body, num_scan_inputs=1),
        helper.make_node("Cast", ["s"], ["y"], to=FLOAT),
    ]
    weight = draw(16).astype(ml_dtypes.bfloat16)
    path = save(tmp_path / "model.onnx", nodes, {"w": weight})
    x, wide = draw(3, 16), 2 * weight.astype(np.float32)
    np.testing.assert_array_equal(run(path, x)[0], rounded(rounded(x) * wide))


def test_bfloat16_edges_are_refused(tmp_path):
    weights = {"w": np.ones(16, ml_dtypes.bfloat16)}
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    path = save(tmp_path / "model.onnx", nodes, weights, BFLOAT16)
    assert holds_bfloat16(path)
    with pytest.raises(RunError, match=r"'x' of '.*' is bfloat16, which NumPy lacks; export"):
        widened(path)


def test_without_onnx(product, monkeypatch):
    assert holds_bfloat16(product)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert holds_bfloat16(product)
    with pytest.raises(DependencyError, match="needs the package onnx; install it with"):
        widened(product)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_models_of_other_types(tmp_path, dtype):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = save(tmp_path / "model.onnx", nodes, {"w": np.ones(16, dtype)})
    assert not holds_bfloat16(path)
    assert session_source(path, None) == str(path)


def test_missing_and_empty_files(tmp_path):
    assert not holds_bfloat16(tmp_path / "none.onnx")
    (tmp_path / "empty.onnx").touch()
    assert not holds_bfloat16(tmp_path / "empty.onnx")


@given(data=st.data())
def test_damaged_files_hold_none_or_some(tmp_path_factory, data):
    """Never an error: whoever opens the file tells what is wrong with it."""
    weights = [numpy_helper.from_array(np.ones(3, ml_dtypes.bfloat16), "w")]
    nodes = [helper.make_node("Identity", ["w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [], [], weights)
    whole = bytearray(helper.make_model(graph).SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    assert holds_bfloat16(path) in (True, False)
