"""TensorRT for RTX and TensorRT: two Python packages with one interface, imported when needed."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any, Protocol

from ...core.engines import import_library
from ...core.errors import DependencyError, first_line

# The end of the sentence where a package is missing.
_INSTEAD: Mapping[str, str] = {
    "rtx": "",
    "native": ", on a machine with an NVIDIA GPU, or choose --engine rtx, which needs neither",
}

# What TensorRT wraps a message in: `Error Code 4: API Usage Error (… In validate at /…/x.cpp:12)`.
_WRAPPED = re.compile(r".*?Error Code \d+: [\w ]+\((.*?)\.?( In \w+ at [^()]*)?\)$", re.DOTALL)
# It looks for a GPU now and then, and builds all the same where there is none.
_NO_GPU = "catchCudaError"


class Log(Protocol):
    """A logger of TensorRT that keeps what it is told.

    Attributes:
        messages: The warnings and errors, in one line each.
        errors: The errors among them.
    """

    messages: list[str]
    errors: list[str]


def tensorrt(kind: str) -> Any:
    """The package that builds a kind of engine; raises `DependencyError` where it is missing."""
    return import_library(kind, "Building engines", _INSTEAD[kind])


def polygraphy() -> Any:
    """Polygraphy's side of TensorRT, silenced; native engines are built through it.

    Raises:
        DependencyError: It is not installed.
    """
    try:
        backend = importlib.import_module("polygraphy.backend.trt")
        logger = importlib.import_module("polygraphy.logger").G_LOGGER
    except ImportError as error:
        raise DependencyError(
            f"Building engines with TensorRT needs Polygraphy ({first_line(error)}); install it "
            "with `pip install kdexport[tensorrt]`."
        ) from error
    logger.module_severity = logger.CRITICAL
    return backend


def polygraphy_error() -> type[Exception]:
    """What Polygraphy raises where TensorRT does not do what it is asked for."""
    error: type[Exception] = importlib.import_module("polygraphy.exception").PolygraphyException
    return error


def library_version(kind: str) -> str:
    """Version of the package that builds a kind of engine; raises as `tensorrt`."""
    return str(tensorrt(kind).__version__)


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparisons."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def make_log(library: Any) -> Log:
    """A logger that prints nothing.

    Args:
        library: `tensorrt` or `tensorrt_rtx`.
    """

    class Collector(library.ILogger):  # type: ignore[misc]
        """Keeps warnings and errors; must not raise, for its caller is C++."""

        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.messages: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Keeps one message."""
            if severity in (library.ILogger.INTERNAL_ERROR, library.ILogger.ERROR):
                if _NO_GPU not in message:
                    self.errors.append(plain(message))
                    self.messages.append(plain(message))
            elif severity == library.ILogger.WARNING:
                self.messages.append(plain(message))

    made: Log = Collector()
    return made


def plain(message: str) -> str:
    """What TensorRT says, in one line and without the places in its own source."""
    found = _WRAPPED.match(message.strip())
    text = found[1] if found else message
    return " ".join(text.split()).rstrip(".")
