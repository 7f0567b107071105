"""Engines of TensorRT for RTX, built ahead of time on the CPU for one compute capability."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core.engines import ENGINES
from ...core.errors import ExportError, OptionError
from ...core.gpus import target_name
from .libraries import tensorrt
from .monitor import Progress, Shares, make_monitor
from .network import parse_network
from .profile import add_profile
from .request import EngineRequest

_TITLE = ENGINES["rtx"].title


def build_rtx(request: EngineRequest, output: Path, progress: Progress) -> None:
    """Builds an engine.

    No timing cache: it would be empty, and setting one asks for a GPU.

    Args:
        request: The engine; checked.
        output: The file to write.
        progress: Told how far the build is, 0 to 1.

    Raises:
        DependencyError: TensorRT for RTX is not installed.
        OptionError: The installed version does not know the GPU.
        ExportError: It does not take the ONNX file, or cannot build the engine.
    """
    library = tensorrt("rtx")
    capability = _capability(library, request.capability)
    network = parse_network(library, request.onnx, _TITLE)
    config = network.builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(capability, 0)
    # What the graph says is float32 is computed in float32, as in native engines.
    config.clear_flag(library.BuilderFlag.TF32)
    # Engines that take memory of their own while they run cannot be captured in a CUDA graph.
    config.set_flag(library.BuilderFlag.REQUIRE_USER_ALLOCATION)
    add_profile(network.builder, network.definition, config, request.ranges)
    config.progress_monitor = make_monitor(library, Shares(progress))
    engine = network.builder.build_serialized_network(network.definition, config)
    if engine is None:
        raise ExportError(
            f"{_TITLE} {library.__version__} cannot build the engine of '{request.role}' for "
            f"{request.target} ({'; '.join(network.log.errors) or 'no reason given'}); choose "
            "other sizes or another precision."
        )
    with output.open("wb") as file:
        file.write(memoryview(engine))


def _capability(library: Any, capability: tuple[int, int]) -> Any:
    """The member of `ComputeCapability`."""
    name = target_name(capability).replace("_", "").upper()
    if not hasattr(library.ComputeCapability, name):
        raise OptionError(
            f"{_TITLE} {library.__version__} does not know {target_name(capability)}; install a "
            "later version."
        )
    return getattr(library.ComputeCapability, name)
