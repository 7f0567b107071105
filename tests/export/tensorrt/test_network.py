"""ONNX files as networks: what the parser refuses, and what each version is told."""

import re
from types import SimpleNamespace

import pytest
from kdexport.core.errors import ExportError
from kdexport.export.tensorrt.libraries import tensorrt
from kdexport.export.tensorrt.network import is_strongly_typed, parse_network
from kdexport.export.tensorrt.process import run_build
from onnx import TensorProto, helper

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
TITLE = "TensorRT for RTX"


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("tensorrt_rtx")
    return tensorrt("rtx")


def refusal(library, path):
    with pytest.raises(ExportError) as error:
        parse_network(library, path, TITLE)
    return str(error.value)


def test_a_network(library, graphs, tmp_path):
    network = parse_network(library, graphs.linear(tmp_path / "m", external=True), TITLE)
    assert network.strongly_typed
    assert tuple(network.definition.get_input(0).shape) == (-1, 4)
    assert network.definition.get_input(0).dtype == library.float16
    assert network.log.errors == []


def test_half_and_float(library, graphs, tmp_path):
    """SDXL's pooled text in float16 beside a time embedding in float32."""
    node = helper.make_node("Concat", ["text", "time"], ["y"], name="/add_embedding/Concat", axis=1)
    inputs = {"text": (HALF, ("batch", 4)), "time": (FLOAT, ("batch", 4))}
    path = graphs.save(tmp_path / "m", [node], inputs, {"y": (HALF, ("batch", 8))})
    message = refusal(library, path)
    assert message.startswith(f"{TITLE} {library.__version__} cannot parse the node ")
    assert "'/add_embedding/Concat' (Concat)" in message
    assert f"of '{path}': " in message
    assert "type" in message
    assert message.endswith(
        "every type must be right in the ONNX file, for none is converted; export the model again "
        "with `kdexport tensorrt`."
    )
    assert "\n" not in message


def test_an_unknown_operator(library, graphs, tmp_path):
    node = helper.make_node("Imagined", ["x"], ["y"], name="dream")
    port = (FLOAT, ("batch", 4))
    message = refusal(library, graphs.save(tmp_path / "m", [node], {"x": port}, {"y": port}))
    assert "the node 'dream' (Imagined)" in message
    assert message.endswith(
        "it has no such operator, or not for these types; export the model with --attention "
        "portable, or run the ONNX files with ONNX Runtime."
    )


def test_no_graph(library, tmp_path):
    (tmp_path / "m").write_bytes(b"no protobuf")
    assert re.search(rf"cannot parse .*'{tmp_path / 'm'}'.*again", refusal(library, tmp_path / "m"))


def test_the_same_sentence_from_the_process(graphs, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    node = helper.make_node("Concat", ["x", "z"], ["y"], name="join", axis=1)
    inputs = {"x": (HALF, (2, 4)), "z": (FLOAT, (2, 4))}
    path = graphs.save(tmp_path / "m", [node], inputs, {"y": (HALF, (2, 8))})
    request = graphs.request(path, ranges=dict.fromkeys("xz", ((2, 4),) * 3))
    with pytest.raises(ExportError, match=r"cannot parse the node 'join' \(Concat\)"):
        run_build(request, tmp_path / "engine", lambda share: None)
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize(
    ("version", "typed", "flags"),
    [
        ("8.6.1", False, 0b1),
        ("9.0.1", False, 0b1),
        ("9.1.0", True, 0b10),
        ("10.7.0", True, 0b10),
        ("11.4.0.106", True, 0),
    ],
)
def test_versions(stand_in, graphs, tmp_path, version, typed, flags):
    library = stand_in.make_tensorrt(version)
    assert is_strongly_typed(library) is typed
    network = parse_network(library, graphs.linear(tmp_path / "m"), "TensorRT")
    assert (network.strongly_typed, network.definition.flags) == (typed, flags)
    assert network.log.messages == ["[MemUsage] odd"]


def error_of(text="", node=0, code="INTERNAL_ERROR", **names):
    """An error of the parser, as a version has it."""
    methods = {"desc": text, "node": node, "code": f"ErrorCode.{code}", **names}
    return SimpleNamespace(**{name: lambda value=value: value for name, value in methods.items()})


def parser_of(*errors):
    """A parser that refuses for these reasons."""

    class Parser:
        num_errors = len(errors)

        def __init__(self, network, log):
            log.log(1, "Error Code 3: API Usage Error (odd. In f at /x.cpp:1)")

        def parse_from_file(self, path):
            return False

        def get_error(self, index):
            return errors[index]

    return Parser


ADVICE = "export the model again with --precision fp16 and --attention portable."


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ([], "TensorRT 8.6.1 cannot parse 'm' (odd); export the model again."),
        # Versions before 10 know the number of the node only.
        (
            [error_of("In node 7: it broke.", 7)],
            "TensorRT 8.6.1 cannot parse the node 'number 7' (operator unknown) of 'm': In node "
            f"7: it broke; {ADVICE}",
        ),
        (
            [error_of("", 3, node_name="mul", node_operator="Mul")],
            "TensorRT 8.6.1 cannot parse the node 'mul' (Mul) of 'm': no reason given; " + ADVICE,
        ),
        (
            [error_of("", 3, node_name="", node_operator="Mul")],
            "TensorRT 8.6.1 cannot parse the node 'number 3' (Mul) of 'm': no reason given; "
            + ADVICE,
        ),
        (
            [error_of("first\nlast.", -1)],
            f"TensorRT 8.6.1 cannot parse the graph of 'm': last; {ADVICE}",
        ),
        (
            [
                error_of(
                    "Error Code 1: x (catchCudaError)\nError Code 4: Usage (it is so. In f at x)"
                )
            ],
            "TensorRT 8.6.1 cannot parse the node 'number 0' (operator unknown) of 'm': it is so; "
            + ADVICE,
        ),
        (
            [error_of("Plugin not found, are the versions right?", 1)],
            "TensorRT 8.6.1 cannot parse the node 'number 1' (operator unknown) of 'm': Plugin not "
            "found, are the versions right?; it has no such operator, or not for these types; "
            "export the model with --attention portable, or run the ONNX files with ONNX Runtime.",
        ),
        (
            [error_of("no", 1, "UNSUPPORTED_NODE_DATATYPE")],
            "TensorRT 8.6.1 cannot parse the node 'number 1' (operator unknown) of 'm': no; it has "
            "no such operator, or not for these types; export the model with --attention "
            "portable, or run the ONNX files with ONNX Runtime.",
        ),
    ],
)
def test_sentences(stand_in, errors, message):
    library = stand_in.make_tensorrt("8.6.1")
    library.OnnxParser = parser_of(*errors)
    with pytest.raises(ExportError, match=f"^{re.escape(message)}$"):
        parse_network(library, "m", "TensorRT")
