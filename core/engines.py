"""The kinds of TensorRT engines, and the library that builds and runs each."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import DependencyError, first_line


@dataclass(frozen=True)
class EngineLibrary:
    """A library that builds and runs engines.

    Attributes:
        module: What Python imports.
        title: What NVIDIA calls it.
        runtime: What `--runtime` calls it.
        package: What it takes to have it, for "install …".
    """

    module: str
    title: str
    runtime: str
    package: str


# By kind of engine, as `--engine` and the manifest have it.
ENGINES: Mapping[str, EngineLibrary] = {
    "rtx": EngineLibrary(
        "tensorrt_rtx",
        "TensorRT for RTX",
        "tensorrt-rtx",
        "it with `pip install kdexport[tensorrt]`",
    ),
    "native": EngineLibrary(
        "tensorrt",
        "TensorRT",
        "tensorrt",
        "NVIDIA's `tensorrt` package, on a Jetson the one of JetPack",
    ),
}


def import_library(kind: str, doing: str, instead: str) -> Any:
    """The Python package of a kind of engine.

    Args:
        kind: A key of `ENGINES`.
        doing: What needs it, the subject of the sentence.
        instead: What else there is to do, the end of the sentence.

    Raises:
        DependencyError: It is not installed, or a library that it needs is missing.
    """
    library = ENGINES[kind]
    try:
        return importlib.import_module(library.module)
    # The packages raise an OSError or a RuntimeError where one of their own libraries is missing.
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            f"{doing} needs {library.title}, whose Python package `{library.module}` cannot be "
            f"imported ({first_line(error)}); install {library.package}{instead}."
        ) from error
