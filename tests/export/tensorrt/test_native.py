"""Engines of TensorRT: what is asked of it, through the real Polygraphy, by version."""

import json
import shutil
from pathlib import Path

import pytest
from kdexport.core.errors import DependencyError, ExportError, OptionError
from kdexport.export.tensorrt.native import build_native
from kdexport.export.tensorrt.process import run_build
from kdexport.export.tensorrt.request import BuildSettings
from onnx import TensorProto, helper

pytest.importorskip("polygraphy")

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
RANGES = {"x": ((1, 4), (2, 4), (8, 4)), "t": ((), (), ())}


@pytest.fixture
def mixed(graphs, tmp_path):
    """A float16 graph with an island in float32, and a number among the inputs."""
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["half"], name="half"),
        helper.make_node("Cast", ["half"], ["wide"], name="cast", to=FLOAT),
        helper.make_node("Mul", ["wide", "t"], ["y"], name="island"),
    ]
    inputs = {"x": (HALF, ("batch", 4)), "t": (FLOAT, ())}
    return graphs.save(tmp_path / "model.onnx", nodes, inputs, {"y": (FLOAT, ("batch", 4))})


@pytest.fixture
def build(graphs, mixed, tmp_path):
    """Builds, and gives what TensorRT was asked for and the progress that was told."""

    def run(**settings):
        request = graphs.request(
            mixed, kind="native", ranges=RANGES, settings=BuildSettings(**settings)
        )
        told = []
        build_native(request, tmp_path / "plan", told.append)
        return json.loads((tmp_path / "plan").read_bytes()), told

    return run


@pytest.mark.parametrize("version", ["9.1.0", "10.7.0", "11.4.0.106"])
def test_strongly_typed(native, build, version):
    library = native(version)
    asked, told = build()
    explicit = version != "11.4.0.106"
    assert asked["network"] == (0b10 if explicit else 0)
    # No flag of a precision: the file says it all.
    assert asked["flags"] == []
    assert asked["pinned"] == asked["outputs"] == {}
    assert told == [0.5, 1.0]
    assert asked["monitored"]
    assert asked["profiles"] == [{"x": [[1, 4], [2, 4], [8, 4]], "t": [[], [], []]}]
    assert (asked["level"], asked["compatibility"]) == (None, None)
    assert asked["verbosity"] == "LAYER_NAMES_ONLY"
    assert library.plugins == [""]


def test_weakly_typed(native, build):
    """JetPack 6: float16 is a flag, and what stays in float32 is said layer by layer."""
    native("8.6.1")
    asked, told = build()
    assert asked["network"] == 0b1
    assert asked["flags"] == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
    # Casts have the types that they have.
    assert asked["pinned"] == {"island": "FLOAT"}
    assert asked["outputs"] == {"island": {"0": "FLOAT"}}
    assert told == []
    assert not asked["monitored"]


def test_a_type_that_an_old_version_lacks(native, graphs, tmp_path):
    native("8.6.1")
    path = graphs.save(
        tmp_path / "model.onnx",
        [helper.make_node("Cast", ["x"], ["y"], name="cast", to=FLOAT)],
        {"x": (HALF, ("batch", 4))},
        {"y": (FLOAT, ("batch", 4))},
        [helper.make_tensor("w", TensorProto.BFLOAT16, (1,), [1.0])],
    )
    with pytest.raises(ExportError, match=r"TensorRT 8\.6\.1 cannot build .* \(.*bf16.*\); choose"):
        build_native(graphs.request(path, kind="native"), tmp_path / "plan", print)


@pytest.mark.parametrize(
    ("version", "name", "member"),
    [
        ("8.6.1", "ampere-plus", "AMPERE_PLUS"),
        ("10.7.0", "same-capability", "SAME_COMPUTE_CAPABILITY"),
        ("11.4.0.106", "ampere-plus", "AMPERE_PLUS"),
    ],
)
def test_settings(native, build, version, name, member):
    native(version)
    asked, _ = build(compatibility=name, level=2)
    assert (asked["compatibility"], asked["level"]) == (member, 2)


def test_a_compatibility_that_a_version_lacks(native, build, tmp_path):
    native("10.1.0")
    message = (
        r"TensorRT 10\.1\.0 has no compatibility 'same-capability'; choose none or ampere-plus, or "
        r"install a later version\."
    )
    with pytest.raises(OptionError, match=message):
        build(compatibility="same-capability")
    assert not (tmp_path / "plan").exists()


def test_timing_cache(native, build, tmp_path):
    native("10.7.0")
    cache = tmp_path / "timings"
    # None yet: it is made.
    assert build(timing_cache=cache)[0]["cache"] == ""
    assert cache.read_bytes() == b"+"
    assert build(timing_cache=cache)[0]["cache"] == "+"
    assert cache.read_bytes() == b"++"


def test_a_build_that_fails(native, build):
    native("10.7.0", failing=True)
    message = (
        r"TensorRT 10\.7\.0 cannot build the engine of 'unet' for sm_89 \(no tactic\); choose other"
        r" sizes or another precision\."
    )
    with pytest.raises(ExportError, match=message):
        build()


def test_without_tensorrt(build):
    with pytest.raises(DependencyError, match=r"NVIDIA's `tensorrt` package, on a Jetson"):
        build()


def test_in_its_process(graphs, mixed, tmp_path, monkeypatch):
    """All of it from the request to the file, where Python finds the stand-in as a package."""
    (tmp_path / "site").mkdir()
    shutil.copy(Path(__file__).with_name("stand_in.py"), tmp_path / "site")
    start = "import sys, stand_in\nsys.modules[__name__] = stand_in.make_tensorrt('10.7.0')\n"
    (tmp_path / "site" / "tensorrt.py").write_text(start)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=":")
    # It would make Polygraphy take the other package.
    monkeypatch.setenv("POLYGRAPHY_USE_TENSORRT_RTX", "1")
    request = graphs.request(mixed, kind="native", ranges=RANGES, settings=BuildSettings(level=4))
    told = []
    run_build(request, tmp_path / "plan", told.append)
    asked = json.loads((tmp_path / "plan").read_bytes())
    assert (asked["version"], asked["level"]) == ("10.7.0", 4)
    assert told == [0.5, 1.0]
