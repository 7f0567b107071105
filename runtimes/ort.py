"""ONNX Runtime: `.onnx` files on the CPU and on every accelerator that it has a provider for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from ..core.errors import (
    DependencyError,
    OptionError,
    ProviderError,
    RunError,
    choices,
    listing,
)
from ..core.manifest import TensorSpec
from .base import Arrays, Runner, Signature

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

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}

# ONNX Runtime's scale: 2 warnings, 3 errors. A warning names nodes that a user cannot act on.
_LOG_ERRORS = 3


@dataclass(frozen=True)
class OrtOptions:
    """How ONNX Runtime runs a model.

    Attributes:
        provider: Short name of the execution provider, a key of `PROVIDERS`.
        threads: Threads inside an operator; None lets ONNX Runtime take every physical core.
    """

    provider: str = "cpu"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            raise OptionError(
                f"ONNX Runtime has no provider '{self.provider}'; choose {choices(PROVIDERS)}."
            )
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"The number of threads must be at least 1, not {self.threads}.")


class OrtRunner(Runner):
    """One ONNX file in an ONNX Runtime session.

    Making the runner checks that the package and the provider are there; opening it makes the
    session.

    Raises:
        DependencyError: onnxruntime is not installed.
        ProviderError: The installed onnxruntime lacks the provider.
    """

    def __init__(self, model: Path, options: OrtOptions | None = None) -> None:
        super().__init__(model)
        self.options = options or OrtOptions()
        _require_available(self.options.provider, _onnxruntime().get_available_providers())
        self._session: Any = None

    @classmethod
    def create(cls, model: Path, provider: str, threads: int | None) -> OrtRunner:
        """Makes a runner from the options that every engine shares."""
        return cls(model, OrtOptions(provider=provider, threads=threads))

    def _open(self) -> Signature:
        session = self._make_session()
        require_active(self.options.provider, session.get_providers())
        signature = Signature(
            inputs=tuple(self._spec(value) for value in session.get_inputs()),
            outputs=tuple(self._spec(value) for value in session.get_outputs()),
        )
        self._session = session
        return signature

    def _run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        # No IO binding: `run` gives fresh arrays, and a bound output that lies on the input makes
        # samplers with memory wrong (optimum-onnx 0.1.0 with PNDM or DDIM and no guidance).
        options = _onnxruntime().RunOptions()
        options.log_severity_level = _LOG_ERRORS
        try:
            results = self._session.run(list(outputs), dict(feed), run_options=options)
        except Exception as error:
            raise RunError(
                f"ONNX Runtime failed to run '{self.model}' ({_first_line(error)})."
            ) from error
        return dict(zip(outputs, results, strict=True))

    def _close(self) -> None:
        self._session = None

    def _make_session(self) -> Any:
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = _LOG_ERRORS
        if self.options.threads is not None:
            options.intra_op_num_threads = self.options.threads
        providers = [PROVIDERS[self.options.provider]]
        try:
            # Otherwise a failing accelerator is replaced by the CPU, with no more than a print.
            return runtime.InferenceSession(
                str(self.model), options, providers=providers, enable_fallback=0
            )
        except Exception as error:
            raise RunError(
                f"ONNX Runtime cannot open '{self.model}' with the provider "
                f"'{self.options.provider}' ({_first_line(error)})."
            ) from error

    def _spec(self, value: Any) -> TensorSpec:
        if value.type not in _DTYPES:
            raise RunError(
                f"'{value.name}' of '{self.model}' is a {value.type}, which is not supported; "
                f"supported are {listing(_DTYPES)}."
            )
        # An unnamed dimension gets a name of its own, which agrees with no other.
        shape = tuple(
            f"{value.name}.{axis}" if size is None or size == "" else size
            for axis, size in enumerate(value.shape)
        )
        return TensorSpec(value.name, _DTYPES[value.type], shape)


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


def _require_available(provider: str, available: Sequence[str]) -> None:
    if PROVIDERS[provider] not in available:
        names = [short for short, long in PROVIDERS.items() if long in available]
        raise ProviderError(
            f"The installed onnxruntime has no provider '{provider}', only {listing(names)}; "
            "choose one of these, or install the onnxruntime package that has it."
        )


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError(
            "Running ONNX models needs onnxruntime; install it with `pip install kdexport[cpu]`, "
            "or `kdexport[gpu]` for NVIDIA GPUs."
        ) from error
    return onnxruntime  # type: ignore[no-any-return]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
