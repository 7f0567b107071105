"""Requests on their way to the process that builds them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.tensorrt_options import TensorrtOptions
from kdexport.export.tensorrt.request import (
    BuildSettings,
    EngineRequest,
    file_name,
    from_message,
    settings_of,
    to_message,
)

SHAPE = st.lists(st.integers(1, 4096), max_size=4).map(tuple)


@given(
    st.sampled_from(["rtx", "native"]),
    st.dictionaries(st.text(min_size=1), st.tuples(SHAPE, SHAPE, SHAPE)),
    st.none() | st.integers(0, 5),
    st.none() | st.just(Path("/caches/timings")),
)
def test_messages(kind, ranges, level, cache):
    settings = BuildSettings("same-capability", level, cache)
    request = EngineRequest("unet", Path("/models/m.onnx"), kind, (12, 0), ranges, settings)
    message = json.loads(json.dumps(to_message(request, Path("/out/engine"))))
    assert from_message(message) == (request, Path("/out/engine"))


def test_paths_in_full(graphs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = BuildSettings(timing_cache=Path("timings"))
    request = graphs.request(Path("model.onnx"), settings=settings)
    sent, output = from_message(to_message(request, Path("engine")))
    assert sent.onnx == tmp_path / "model.onnx"
    assert sent.settings.timing_cache == tmp_path / "timings"
    assert output == tmp_path / "engine"


@pytest.mark.parametrize(
    ("kind", "capability", "name"),
    [
        ("rtx", (8, 9), "unet.sm89.rtx.engine"),
        ("rtx", (12, 0), "unet.sm120.rtx.engine"),
        ("native", (8, 7), "unet.sm87.plan"),
    ],
)
def test_names(graphs, kind, capability, name):
    assert file_name("unet", kind, capability) == name
    request = graphs.request(Path("m"), capability, kind)
    assert request.target.replace("_", "") in name


def test_settings_of_options():
    given_options = TensorrtOptions(
        engine="native", compatibility="ampere-plus", level=3, timing_cache=Path("t")
    )
    settings = settings_of(given_options)
    assert settings == BuildSettings("ampere-plus", 3, Path("t"))
    assert settings.to_json() == {"compatibility": "ampere-plus", "level": 3}
