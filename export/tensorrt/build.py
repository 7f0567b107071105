"""A request to an engine: every check first, then the build in a process of its own."""

from __future__ import annotations

from pathlib import Path

from ...core.engines import ENGINES
from ...core.errors import OptionError
from .libraries import tensorrt
from .memory import require_memory
from .monitor import Progress
from .network import require_own_operators, require_symmetric
from .precision import require_types
from .process import run_build
from .profile import require_profile
from .request import EngineRequest
from .targets import require_compatibility, require_target


def build_engine(request: EngineRequest, output: Path, progress: Progress) -> None:
    """Builds an engine.

    Args:
        request: What to build.
        output: The file to write; on an error what is there is not an engine.
        progress: Told how far the build is, 0 to 1. What it raises ends the build at once.

    Raises:
        OptionError: The GPU, its types, the profile or a setting do not fit.
        DependencyError: TensorRT is not installed.
        ProviderError: TensorRT needs a GPU, and there is none.
        ExportError: TensorRT does not take the ONNX file, there is too little memory, or the build
            failed.
    """
    check_request(request)
    require_memory(request.graph.bytes, request.role)
    run_build(request, output, progress)


def check_request(request: EngineRequest) -> None:
    """Everything that is known before a build but free memory; raises as `build_engine`."""
    tensorrt(request.kind)
    require_target(request.kind, request.capability)
    graph = request.graph
    require_own_operators(graph, request.role, ENGINES[request.kind].title)
    require_symmetric(graph, request.role, ENGINES[request.kind].title)
    require_types(graph.dtypes, request.capability, f"The ONNX file of '{request.role}'")
    require_profile(graph.inputs, request.ranges, request.role)
    require_compatibility(request.settings.compatibility, request.capability)
    require_timing_cache(request.settings.timing_cache)


def require_timing_cache(cache: Path | None) -> None:
    """Raises `OptionError` where the file for timings could not be written."""
    if cache is not None and not cache.absolute().parent.is_dir():
        raise OptionError(
            f"The timing cache '{cache}' lies in a folder that does not exist; make the folder, or "
            "choose another file."
        )
