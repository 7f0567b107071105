"""Engines of TensorRT for RTX: what it does not build."""

import pytest
from kdexport.core.errors import ExportError, OptionError
from kdexport.export.tensorrt.rtx import build_rtx

library = pytest.importorskip("tensorrt_rtx")


def test_a_gpu_that_this_version_does_not_know(graphs, tmp_path):
    request = graphs.request(graphs.linear(tmp_path / "model.onnx"), (19, 0))
    message = rf"^TensorRT for RTX {library.__version__} does not know sm_190; install a later ver"
    with pytest.raises(OptionError, match=message):
        build_rtx(request, tmp_path / "engine", lambda share: None)
    assert not (tmp_path / "engine").exists()


def test_a_profile_that_it_refuses(graphs, tmp_path):
    """What the checks before a build would have refused, said by the library."""
    path = graphs.linear(tmp_path / "model.onnx")
    request = graphs.request(path, ranges={"x": ((2, 4), (2, 5), (2, 4))})
    message = (
        rf"^TensorRT for RTX {library.__version__} cannot build the engine of 'unet' for sm_89 "
        r"\(.+\); choose other sizes or another precision\.$"
    )
    with pytest.raises(ExportError, match=message) as error:
        build_rtx(request, tmp_path / "engine", lambda share: None)
    assert "no reason given" not in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "engine").exists()
