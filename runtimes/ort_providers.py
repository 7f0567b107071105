"""ONNX Runtime's execution providers: their names, and how each is set up.

The options for GPUs are written without a GPU: no session was ever made with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import ProviderError, listing
from ..core.profiles import Ranges

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "nv_tensorrt_rtx": "NvTensorRTRTXExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}

# Provider to the memory that its inputs and outputs are bound to; the others are fed from the CPU.
DEVICES = {
    "cuda": "cuda",
    "tensorrt": "cuda",
    "nv_tensorrt_rtx": "cuda",
}

# Providers that compile a model for a range of shapes.
COMPILING = ("tensorrt", "nv_tensorrt_rtx")

# ONNX Runtime's scale: 2 warnings, 3 errors. A warning names nodes that a user cannot act on.
LOG_ERRORS = 3


@dataclass(frozen=True)
class Setup:
    """What the options of a provider depend on.

    Attributes:
        cuda_graphs: Capture and replay CUDA graphs.
        ranges: Shapes that engines are built for, of each input with a dynamic dimension.
        engines: Folder for the engines of this one model, or None for none.
        timings: Folder for what the builder measured, which models share, or None for none.
    """

    cuda_graphs: bool = False
    ranges: Mapping[str, Ranges] = field(default_factory=dict)
    engines: Path | None = None
    timings: Path | None = None


def provider_options(provider: str, setup: Setup) -> dict[str, str]:
    """The options of a provider, by ONNX Runtime's names; empty where its own defaults hold."""
    return _OPTIONS[provider](setup) if provider in _OPTIONS else {}


def _cuda(setup: Setup) -> dict[str, str]:
    return {
        "device_id": "0",
        # One session per component shares the GPU: take what is needed, not the next power of two.
        "arena_extend_strategy": "kSameAsRequested",
        # The exhaustive search times every algorithm at each new shape, and may pick another one at
        # the next start, so that a seed would not give the same bits twice.
        "cudnn_conv_algo_search": "HEURISTIC",
        # With another stream, a copy may overtake the kernels that it depends on.
        "do_copy_in_default_stream": "1",
        # TF32 keeps 10 bits of a float32: the gate of 1e-4 would fail, and so would the float32
        # islands of mixed models. Whoever wants speed exports in half precision.
        "use_tf32": "0",
        "enable_cuda_graph": _flag(setup.cuda_graphs),
    }


def _tensorrt(setup: Setup) -> dict[str, str]:
    # No precision flag: TensorRT 11 has none, precision is that of the ONNX file (ONNX Runtime from
    # 1.27; older TensorRT needs a flag for float16, which would cost the float32 islands).
    options = {
        "device_id": "0",
        "trt_cuda_graph_enable": _flag(setup.cuda_graphs),
    }
    if setup.engines is not None:
        # The provider names engines after the graph without its weights, hence a folder per model.
        options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(setup.engines)}
    if setup.timings is not None:
        options |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(setup.timings)}
    return options | _profile("trt_profile", setup.ranges)


def _rtx(setup: Setup) -> dict[str, str]:
    options = {
        "device_id": "0",
        # On in the plugin where nothing is said.
        "enable_cuda_graph": _flag(setup.cuda_graphs),
    }
    if setup.engines is not None:
        options["nv_runtime_cache_path"] = str(setup.engines)
    return options | _profile("nv_profile", setup.ranges)


# Provider to what makes its options.
_OPTIONS: dict[str, Callable[[Setup], dict[str, str]]] = {
    "cuda": _cuda,
    "tensorrt": _tensorrt,
    "nv_tensorrt_rtx": _rtx,
}


def _flag(value: bool) -> str:
    return "1" if value else "0"


def _profile(prefix: str, ranges: Mapping[str, Ranges]) -> dict[str, str]:
    """The three profile options, as `name:2x4x64x64,other:2x77x768`."""
    if not ranges:
        return {}
    return {
        f"{prefix}_{kind}_shapes": ",".join(
            f"{name}:{'x'.join(map(str, shapes[index]))}" for name, shapes in ranges.items()
        )
        for index, kind in enumerate(("min", "opt", "max"))
    }


def session_providers(
    provider: str, setup: Setup, available: Sequence[str]
) -> list[tuple[str, dict[str, str]]]:
    """Providers of a session in order of preference, with their options.

    What TensorRT does not take stays on the GPU where onnxruntime has CUDA as well.

    Args:
        provider: A key of `PROVIDERS`.
        setup: What its options depend on.
        available: The providers built into onnxruntime, by its names.
    """
    providers = [(PROVIDERS[provider], provider_options(provider, setup))]
    if provider in COMPILING and PROVIDERS["cuda"] in available:
        # Without graphs: there is one to a session, and it is TensorRT's.
        providers.append((PROVIDERS["cuda"], provider_options("cuda", Setup())))
    return providers


def require_active(provider: str, active: Sequence[str]) -> None:
    """Raises `ProviderError` where a session does not run on `provider`.

    ONNX Runtime always adds the CPU for operators that a provider lacks, but where a provider
    cannot start at all (a driver or library is missing) only the CPU is left.

    Args:
        provider: A key of `PROVIDERS`.
        active: Providers of the session, by ONNX Runtime's names.
    """
    if PROVIDERS[provider] not in active:
        raise ProviderError(
            f"ONNX Runtime could not start the provider '{provider}' and fell back to "
            f"{listing(active)}; install the driver and libraries that the provider needs, or "
            "choose the provider 'cpu'."
        )
