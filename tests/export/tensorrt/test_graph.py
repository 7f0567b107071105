"""What is read of an ONNX file without its weights."""

import onnx
import pytest
from kdexport.core.errors import ExportError
from kdexport.export.tensorrt.graph import read_graph
from onnx import TensorProto, helper

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def test_a_whole_file(graphs, tmp_path):
    path = graphs.linear(tmp_path / "model.onnx", external=True)
    graph = read_graph(path)
    assert graph.inputs == {"x": ("batch", 4)}
    assert graph.dtypes == {"float16"}
    assert graph.foreign is None
    assert [each.name for each in graph.files] == ["model.onnx", "model.onnx.data"]
    assert graph.bytes == sum(each.stat().st_size for each in tmp_path.iterdir())


def test_inputs(graphs, tmp_path):
    """Weights that are listed as inputs are none; sizes that the file leaves open are `?`."""
    weight = helper.make_tensor("w", FLOAT, (4,), [1.0] * 4)
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    ports = {"x": (FLOAT, (None, 4)), "w": (FLOAT, (4,)), "t": (FLOAT, ())}
    path = graphs.save(tmp_path / "m", nodes, ports, {"y": (FLOAT, (None, 4))}, [weight])
    assert read_graph(path).inputs == {"x": ("?", 4), "t": ()}


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (TensorProto.BFLOAT16, "bfloat16"),
        (TensorProto.FLOAT8E4M3FN, "float8"),
        (TensorProto.FLOAT8E5M2, "float8"),
        (TensorProto.INT8, "int8"),
        (TensorProto.INT64, "int64"),
    ],
)
@pytest.mark.parametrize("place", ["weight", "constant", "cast", "input"])
def test_types(graphs, tmp_path, dtype, name, place):
    tensor = helper.make_tensor("w", dtype, (1,), [1])
    node = {
        "weight": lambda: helper.make_node("Identity", ["w"], ["y"]),
        "constant": lambda: helper.make_node("Constant", [], ["y"], value=tensor),
        "cast": lambda: helper.make_node("Cast", ["x"], ["y"], to=dtype),
        "input": lambda: helper.make_node("Cast", ["x"], ["y"], to=FLOAT),
    }[place]()
    path = graphs.save(
        tmp_path / "m",
        [node],
        {"x": (dtype if place == "input" else FLOAT, (1,))},
        {"y": (FLOAT, (1,))},
        [tensor] if place == "weight" else [],
    )
    assert read_graph(path).dtypes == {name, "float32"}


def branch(node):
    """A graph with a node inside a node: `x` through both branches of an If."""
    output = helper.make_tensor_value_info("z", FLOAT, (1,))
    inner = helper.make_graph([node], "inner", [], [output])
    return helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)


def test_inner_graphs(graphs, tmp_path):
    inner = helper.make_node("Gelu", ["x"], ["z"], domain="com.microsoft")
    inputs = {"x": (FLOAT, (1,)), "c": (TensorProto.BOOL, ())}
    domains = ["com.microsoft"]
    path = graphs.save(
        tmp_path / "m", [branch(inner)], inputs, {"y": (FLOAT, (1,))}, domains=domains
    )
    graph = read_graph(path)
    assert graph.foreign == "com.microsoft.Gelu"
    assert graph.dtypes == {"float32", "bool"}
    # The empty domain by its other name.
    own = helper.make_node("Relu", ["x"], ["z"], domain="ai.onnx")
    path = graphs.save(tmp_path / "m", [branch(own)], inputs, {"y": (FLOAT, (1,))})
    assert read_graph(path).foreign is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no ONNX file"),
        (b"no protobuf\xff", "is no ONNX file; export the model again"),
        (b"", "is no ONNX file, or an empty one"),
        (onnx.ModelProto(ir_version=10).SerializeToString(), "is no ONNX file, or an empty one"),
    ],
)
def test_no_graph(tmp_path, content, message):
    if content is not None:
        (tmp_path / "m").write_bytes(content)
    with pytest.raises(ExportError, match=message):
        read_graph(tmp_path / "m")


def test_a_graph_that_is_cut_off(graphs, tmp_path):
    path = graphs.linear(tmp_path / "m")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ExportError, match=f"'{path}' is no ONNX file"):
        read_graph(path)


@pytest.mark.parametrize("place", ["missing", "short", "outside", "absolute"])
def test_weights_that_are_not_there(graphs, tmp_path, place):
    path = graphs.linear(tmp_path / "model" / "m", external=True)
    data = path.with_name("m.data")
    location = "m.data"
    if place == "missing":
        data.unlink()
    elif place == "short":
        data.write_bytes(data.read_bytes()[:-1])
    else:
        # Whole, but not where a model may take its weights from.
        data.rename(tmp_path / "m.data")
        location = "../m.data" if place == "outside" else str(tmp_path / "m.data")
        model = onnx.load(path, load_external_data=False)
        weight = model.graph.initializer[0]
        weight.ClearField("external_data")
        graphs.point_to(weight, location, 32)
        onnx.save(model, path)
    with pytest.raises(ExportError, match=r"weights of .* in '.*m.data' are missing or cut off"):
        read_graph(path)


def test_one_file_of_weights_for_many(graphs, tmp_path):
    weights = [helper.make_tensor(name, HALF, (4, 4), b"\0" * 32, raw=True) for name in "ab"]
    for index, each in enumerate(weights):
        graphs.point_to(each, "m.data", 32, 32 * index)
    (tmp_path / "m.data").write_bytes(b"\0" * 64)
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["z"]),
        helper.make_node("Add", ["z", "b"], ["y"]),
    ]
    port = (HALF, ("batch", 4))
    path = graphs.save(tmp_path / "m", nodes, {"x": port}, {"y": port}, weights)
    assert len(read_graph(path).files) == 2
    (tmp_path / "m.data").write_bytes(b"\0" * 63)
    with pytest.raises(ExportError, match="cut off"):
        read_graph(path)
