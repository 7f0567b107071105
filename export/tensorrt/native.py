"""Engines of TensorRT, tuned on the GPU of this machine: 8.6 (Jetson), 10 and 11 on one path.

Written without a GPU, never executed against TensorRT: tests hold the calls against a stand-in for
the package. What differs between versions, from NVIDIA's release notes:

- up to 9.0 networks are weakly typed: the types of the ONNX file are hints, float16 needs a flag,
  and what must stay in float32 has to be said layer by layer;
- from 9.1 on networks are strongly typed where that is asked for, in 11 always; the flags of
  precisions are an error there, and gone in 11.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core.engines import ENGINES
from ...core.errors import ExportError, OptionError, choices, first_line
from .libraries import polygraphy, polygraphy_error, tensorrt
from .monitor import Progress, Shares, make_monitor
from .network import Network, parse_network
from .request import EngineRequest

_TITLE = ENGINES["native"].title
_LEVELS = {"ampere-plus": "AMPERE_PLUS", "same-capability": "SAME_COMPUTE_CAPABILITY"}
# Layers that move or make numbers and do not compute; some of them refuse to be given a precision.
_PASSIVE = ("CONSTANT", "SHAPE", "IDENTITY", "CAST", "SHUFFLE", "CONCATENATION", "GATHER", "SLICE")


def build_native(request: EngineRequest, output: Path, progress: Progress) -> None:
    """Builds an engine.

    Args:
        request: The engine; checked.
        output: The file to write.
        progress: Told how far the build is, 0 to 1.

    Raises:
        DependencyError: TensorRT or Polygraphy is not installed.
        OptionError: The installed version does not know the compatibility.
        ExportError: TensorRT does not take the ONNX file, or cannot build the engine.
    """
    library, backend = tensorrt("native"), polygraphy()
    library.init_libnvinfer_plugins(None, "")
    network = parse_network(library, request.onnx, _TITLE)
    if not network.strongly_typed:
        keep_float32(library, network.definition)
    config = _config(library, backend, network, request, progress)
    try:
        engine = backend.engine_bytes_from_network(
            (network.builder, network.definition, network.parser),
            config=config,
            save_timing_cache=_text(request.settings.timing_cache),
        )
    except polygraphy_error() as error:
        reasons = "; ".join(network.log.errors) or first_line(error)
        raise ExportError(
            f"{_TITLE} {library.__version__} cannot build the engine of '{request.role}' for "
            f"{request.target} ({reasons}); choose other sizes or another precision."
        ) from error
    with output.open("wb") as file:
        file.write(memoryview(engine))


def keep_float32(library: Any, network: Any) -> None:
    """Pins the layers of a weakly typed network that compute in float32 to that precision.

    Args:
        library: `tensorrt`.
        network: `INetworkDefinition`.
    """
    passive = {getattr(library.LayerType, name, None) for name in _PASSIVE}
    for layer in network:
        given = [layer.get_output(index) for index in range(layer.num_outputs)]
        single = [tensor.dtype == library.DataType.FLOAT for tensor in given]
        if layer.type in passive or not single or not all(single):
            continue
        layer.precision = library.DataType.FLOAT
        for index in range(layer.num_outputs):
            layer.set_output_type(index, library.DataType.FLOAT)


def _config(
    library: Any, backend: Any, network: Network, request: EngineRequest, progress: Progress
) -> Any:
    """Polygraphy's loader of the build's configuration."""
    settings, typed = request.settings, network.strongly_typed
    # In a strongly typed network the ONNX file says it all.
    hinted = frozenset() if typed else request.graph.dtypes
    profile = backend.Profile()
    for name, shapes in request.ranges.items():
        # Numbers have no shape to choose.
        if shapes[0]:
            profile.add(name, *shapes)
    return backend.CreateConfig(
        profiles=[profile],
        fp16="float16" in hinted,
        bf16="bfloat16" in hinted,
        int8="int8" in hinted,
        precision_constraints=None if typed else "obey",
        load_timing_cache=_text(settings.timing_cache),
        builder_optimization_level=settings.level,
        hardware_compatibility_level=_compatibility(library, settings.compatibility),
        profiling_verbosity=library.ProfilingVerbosity.LAYER_NAMES_ONLY,
        progress_monitor=make_monitor(library, Shares(progress)),
    )


def _compatibility(library: Any, name: str) -> Any:
    """The member of `HardwareCompatibilityLevel`, or None where engines are for one GPU."""
    if name == "none":
        return None
    kind = library.HardwareCompatibilityLevel
    if not hasattr(kind, _LEVELS[name]):
        known = ["none", *(each for each, member in _LEVELS.items() if hasattr(kind, member))]
        raise OptionError(
            f"{_TITLE} {library.__version__} has no compatibility '{name}'; choose "
            f"{choices(known)}, or install a later version."
        )
    return getattr(kind, _LEVELS[name])


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
