"""What an engine's key depends on."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import ExportError
from kdexport.export.tensorrt.key import engine_key
from kdexport.export.tensorrt.request import BuildSettings, EngineRequest

EXTENT = st.lists(st.integers(1, 9), min_size=3, max_size=3).map(sorted)
RANGES = st.dictionaries(
    st.sampled_from(["x", "t", "sample"]),
    st.lists(EXTENT, min_size=1, max_size=3).map(lambda axes: tuple(zip(*axes, strict=True))),
    min_size=1,
)
# All that determines an engine, beside its ONNX files.
IDENTITIES = st.tuples(
    st.sampled_from(["rtx", "native"]),
    st.sampled_from([(8, 6), (8, 9), (12, 0)]),
    RANGES,
    st.sampled_from(["none", "ampere-plus", "same-capability"]),
    st.none() | st.integers(0, 5),
    st.sampled_from(["1.7.1.116", "1.7.2", "10.7.0"]),
    st.sampled_from([None, "NVIDIA GeForce RTX 4090", "NVIDIA L40S"]),
)


def key_of(identity, path=Path("model.onnx"), role="unet", cache=None, digests=None):
    kind, capability, ranges, compatibility, level, version, device = identity
    settings = BuildSettings(compatibility, level, cache)
    request = EngineRequest(role, path, kind, capability, ranges, settings, device)
    # What was read of the files, so that none are needed.
    request.__dict__["digests"] = digests or {path.name: "12", "weights": "34"}
    return engine_key(request, version)


@given(IDENTITIES, IDENTITIES)
def test_as_many_keys_as_identities(one, other):
    assert (key_of(one) == key_of(other)) == (one == other)
    assert len(key_of(one)) == 64


@given(IDENTITIES, st.integers(0, 6), IDENTITIES)
def test_any_one_change(one, index, other):
    changed = one[:index] + other[index : index + 1] + one[index + 1 :]
    assert (key_of(changed) == key_of(one)) == (changed == one)


@given(IDENTITIES, st.sampled_from(["unet", "vae_decoder"]), st.none() | st.just(Path("timings")))
def test_what_makes_no_difference(identity, role, cache):
    path = Path("elsewhere") / "other.onnx"
    assert key_of(identity, path, role, cache) == key_of(identity)
    kind, capability, ranges, *rest = identity
    turned = dict(reversed(list(ranges.items())))
    assert key_of((kind, capability, turned, *rest)) == key_of(identity)


@given(st.text("0123456789abcdef", min_size=1), st.text("0123456789abcdef", min_size=1))
def test_weights(graph, weights):
    identity = ("rtx", (8, 9), {"x": ((1,), (1,), (1,))}, "none", None, "1", None)
    digests = {"model.onnx": graph, "model.onnx.data": weights}
    same = (graph, weights) == ("12", "34")
    known = {"model.onnx": "12", "model.onnx.data": "34"}
    assert (key_of(identity, digests=digests) == key_of(identity, digests=known)) == same


@pytest.mark.parametrize("external", [True, False])
def test_files(graphs, tmp_path, external):
    path = graphs.linear(tmp_path / "a" / "model.onnx", external)
    same = graphs.linear(tmp_path / "b" / "model.onnx", external)
    other = graphs.linear(tmp_path / "c" / "model.onnx", external, seed=1)
    keys = [engine_key(graphs.request(each), "1.7") for each in (path, same, other)]
    assert keys[0] == keys[1] != keys[2]


def test_external_data(graphs, tmp_path):
    path = graphs.linear(tmp_path / "model.onnx", external=True)
    before = engine_key(graphs.request(path), "1.7")
    data = tmp_path / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    # The graph is the same, byte for byte.
    assert engine_key(graphs.request(path), "1.7") != before
    # A file that the graph does not name is none of its.
    (tmp_path / "notes.txt").write_text("x")
    request = graphs.request(path)
    assert set(request.digests) == {"model.onnx", "model.onnx.data"}
    data.unlink()
    assert len(engine_key(request, "1.7")) == 64
    with pytest.raises(ExportError, match="are missing or cut off"):
        engine_key(replace(request), "1.7")
