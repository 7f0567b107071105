"""The packages that build engines, and what they say."""

import importlib
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import DependencyError
from kdexport.export.tensorrt import libraries
from kdexport.export.tensorrt.libraries import (
    library_version,
    make_log,
    plain,
    polygraphy,
    polygraphy_error,
    tensorrt,
    version_numbers,
)


@pytest.fixture
def broken(monkeypatch):
    """Makes one package fail as it is imported."""

    def install(module, error):
        real = importlib.import_module

        def fail(name):
            if name == module:
                raise error
            return real(name)

        monkeypatch.setattr(libraries.importlib, "import_module", fail)

    return install


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtensorrt_rtx.so.1: cannot open shared object file\nmore"),
        OSError("libtensorrt_rtx.so.1: cannot open shared object file."),
        RuntimeError("libtensorrt_rtx.so.1: cannot open shared object file:"),
    ],
)
def test_rtx_missing(broken, error):
    broken("tensorrt_rtx", error)
    message = (
        r"^Building engines needs TensorRT for RTX, whose Python package `tensorrt_rtx` "
        r"cannot be imported \(libtensorrt_rtx\.so\.1: cannot open shared object file\); install "
        r"it with `pip install kdexport\[tensorrt\]`\.$"
    )
    for call in (tensorrt, library_version):
        with pytest.raises(DependencyError, match=message):
            call("rtx")


def test_native_missing(broken):
    broken("tensorrt", ImportError("No module named 'tensorrt'"))
    message = (
        r"^Building engines needs TensorRT, whose Python package `tensorrt` cannot be "
        r"imported \(No module named 'tensorrt'\); install NVIDIA's `tensorrt` package, on a "
        r"Jetson the one of JetPack, on a machine with an NVIDIA GPU, or choose --engine rtx, "
        r"which needs neither\.$"
    )
    with pytest.raises(DependencyError, match=message):
        tensorrt("native")


def test_polygraphy_missing(broken):
    broken("polygraphy.backend.trt", ImportError("No module named 'polygraphy'"))
    message = r"TensorRT needs Polygraphy \(No module named 'polygraphy'\); install it with `pip"
    with pytest.raises(DependencyError, match=message):
        polygraphy()


def test_installed(native):
    assert library_version("rtx") == sys.modules["tensorrt_rtx"].__version__
    native("10.7.0")
    assert library_version("native") == "10.7.0"
    backend = polygraphy()
    assert hasattr(backend, "CreateConfig")
    # What it raises is not among what the other module exports.
    assert issubclass(polygraphy_error(), Exception)
    assert not hasattr(backend, "PolygraphyException")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            "IBuilder::build: Error Code 4: API Usage Error (x: types Half and Float differ. In "
            "validate at /_src/optimizer/x.cpp:12)",
            "x: types Half and Float differ",
        ),
        (
            "[graph.cpp::f::12] Error Code 10: Internal Error (Could not\n  find any.)",
            "Could not find any",
        ),
        ("Error Code 2: Internal Error (Assertion f(x) failed. )", "Assertion f(x) failed"),
        ("  two\n lines. ", "two lines"),
        ("", ""),
    ],
)
def test_plain(message, text):
    assert plain(message) == text


@given(st.text())
def test_plain_is_one_line(message):
    assert len(plain(message).splitlines()) <= 1


@given(st.lists(st.integers(0, 999), min_size=1))
def test_versions(numbers):
    assert version_numbers(".".join(map(str, numbers))) == tuple(numbers)
    assert version_numbers("10.0.0b6") == (10, 0, 0, 6)


def test_log():
    severities = dict.fromkeys(("INTERNAL_ERROR", "ERROR", "WARNING", "INFO"))
    kind = type("ILogger", (), {name: name for name in severities})
    log = make_log(SimpleNamespace(ILogger=kind))
    log.log("INFO", "parsing")
    log.log("WARNING", "odd.")
    log.log("ERROR", "Error Code 1: Cuda Runtime (In catchCudaError at x.cpp:1)")
    log.log("INTERNAL_ERROR", "Error Code 2: Internal Error (broken. In f at x.cpp:1)")
    assert log.messages == ["odd", "broken"]
    assert log.errors == ["broken"]
