"""TensorRT and CUDA's Python bindings, loaded when they are asked for.

Written without a GPU. The imports and the errors of CUDA were run on a machine that has the
packages but no driver; a call that succeeds on a device was never executed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ...core.engines import import_library
from ...core.errors import DependencyError, ProviderError, RunError, first_line

_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY")


def tensorrt_library(kind: str) -> Any:
    """The package that runs a kind of engine; raises `DependencyError` where it is missing."""
    return import_library(
        kind, "Running the engines of this bundle", ", or choose the runtime 'onnxruntime'"
    )


@dataclass(frozen=True)
class Cuda:
    """The modules of CUDA's Python bindings.

    Attributes:
        runtime: `cuda.bindings.runtime`.
        driver: `cuda.bindings.driver`.
        nvrtc: `cuda.bindings.nvrtc`.
    """

    runtime: ModuleType
    driver: ModuleType
    nvrtc: ModuleType

    def call(self, function: Callable[..., Any], *arguments: Any, doing: str) -> Any:
        """Calls a function of the bindings and checks its error code.

        Args:
            function: Of one of the three modules; it returns a tuple that the error code begins.
            arguments: What it is called with.
            doing: What is being done, for "CUDA failed to …".

        Returns:
            What it gave beside the code: nothing, a value or a tuple of values.

        Raises:
            RunError: CUDA refused; the message holds its own name of the error.
            ProviderError: There is no driver, or a library of CUDA is missing.
        """
        try:
            code, *values = function(*arguments)
        # The bindings raise where they cannot load the library behind a function.
        except RuntimeError as error:
            raise ProviderError(
                f"CUDA failed to {doing} ({first_line(error)}); install NVIDIA's driver and the "
                "libraries of CUDA, or choose the runtime 'onnxruntime'."
            ) from error
        if int(code):
            raise RunError(f"CUDA failed to {doing} ({code.name}); {_advice(code.name)}.")
        return values[0] if len(values) == 1 else tuple(values) or None


def load_cuda() -> Cuda:
    """Imports CUDA's Python bindings; raises `DependencyError` where they are missing."""
    try:
        modules = [
            importlib.import_module(f"cuda.bindings.{name}") for name in Cuda.__dataclass_fields__
        ]
    except (ImportError, OSError) as error:
        raise DependencyError(
            f"Running TensorRT engines needs CUDA's Python bindings ({first_line(error)}); "
            "install them with `pip install kdexport[tensorrt]`, or choose the runtime "
            "'onnxruntime'."
        ) from error
    return Cuda(*modules)


def _advice(name: str) -> str:
    if name in _MEMORY:
        return "free memory on the GPU, or draw fewer or smaller images at once"
    return "look the error up in NVIDIA's documentation, or choose the runtime 'onnxruntime'"
