"""What is checked before a build."""

import pytest
from kdexport.core.errors import ExportError, OptionError
from kdexport.export.tensorrt.build import build_engine, check_request
from kdexport.export.tensorrt.request import BuildSettings
from onnx import TensorProto, helper

pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def path(graphs, tmp_path):
    return graphs.linear(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capability": (9, 0)}, r"TensorRT for RTX does not build for sm_90 \(H100, "),
        ({"ranges": {"x": ((1, 3), (1, 3), (1, 3))}}, "The profile of 'unet' gives dimension 1"),
        (
            {"capability": (7, 5), "settings": BuildSettings("ampere-plus")},
            "'ampere-plus' begins with sm_80",
        ),
    ],
)
def test_refused(graphs, path, tmp_path, changes, message):
    with pytest.raises(OptionError, match=message):
        build_engine(graphs.request(path, **changes), tmp_path / "engine", print)
    assert not (tmp_path / "engine").exists()


def test_timing_cache(native, graphs, path, tmp_path):
    native("10.7.0")
    for folder, fits in ((tmp_path, True), (tmp_path / "missing", False)):
        settings = BuildSettings(timing_cache=folder / "timings")
        request = graphs.request(path, kind="native", settings=settings)
        if fits:
            check_request(request)
        else:
            with pytest.raises(OptionError, match="timings' lies in a folder that does not exist"):
                check_request(request)


@pytest.mark.parametrize("kind", ["rtx", "native"])
def test_foreign_operators(native, graphs, tmp_path, kind):
    native("10.7.0")
    port = (TensorProto.FLOAT16, ("batch", 4))
    node = helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft")
    path = graphs.save(tmp_path / "m", [node], {"x": port}, {"y": port}, domains=["com.microsoft"])
    title = {"rtx": "TensorRT for RTX", "native": "TensorRT"}[kind]
    message = (
        r"The ONNX file of 'unet' has the operator com.microsoft.FastGelu, which is not ONNX's and "
        rf"which {title} cannot be relied on to have; export the model with --attention portable\."
    )
    with pytest.raises(ExportError, match=message):
        check_request(graphs.request(path, kind=kind))
