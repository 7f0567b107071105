"""ONNX Runtime: `.onnx` files on the CPU and on every accelerator that it has a provider for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..core.errors import (
    KdexportError,
    ProviderError,
    RunError,
    first_line,
    listing,
)
from ..core.manifest import TensorSpec
from .base import Arrays, Runner, Signature
from .ort_binding import DeviceBinding
from .ort_cpu import cpu_session
from .ort_libraries import plugin_devices, preload_libraries
from .ort_options import OrtOptions
from .ort_providers import (
    DEVICES,
    LOG_ERRORS,
    PROVIDERS,
    Setup,
    provider_options,
    require_active,
    session_providers,
)
from .ort_session import onnxruntime_package, session_options
from .ort_setup import make_setup, require_in_range

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
        # Devices of a plugin; empty where the provider is built in.
        self._devices = _require_available(self.options.provider)
        self._setup = Setup()
        self._session: Any = None
        self._binding: DeviceBinding | None = None

    @classmethod
    def create(cls, model: Path, provider: str, threads: int | None) -> OrtRunner:
        """Makes a runner from the options that every engine shares."""
        return cls(model, OrtOptions(provider=provider, threads=threads))

    def _open(self) -> Signature:
        provider = self.options.provider
        self._setup = make_setup(provider, self.model, self.options.cuda_graphs)
        session = self._make_session()
        require_active(provider, session.get_providers())
        signature = Signature(
            inputs=tuple(self._spec(value) for value in session.get_inputs()),
            outputs=tuple(self._spec(value) for value in session.get_outputs()),
        )
        self._session = session
        # A plugin brings allocators of its own, so its tensors are left to it.
        if provider in DEVICES and not self._devices:
            self._binding = DeviceBinding(session, DEVICES[provider], self.options.cuda_graphs)
        return signature

    def _run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        require_in_range(feed, self._setup.ranges, self.model, self.options.provider)
        try:
            if self._binding is not None:
                return self._binding.run(feed, outputs)
            options = onnxruntime_package().RunOptions()
            options.log_severity_level = LOG_ERRORS
            results = self._session.run(list(outputs), dict(feed), run_options=options)
        except Exception as error:
            raise RunError(
                f"ONNX Runtime failed to run '{self.model}' ({first_line(error)})."
            ) from error
        return dict(zip(outputs, results, strict=True))

    def _close(self) -> None:
        # Its buffers come from the session.
        self._binding = None
        self._session = None

    def _make_session(self) -> Any:
        provider = self.options.provider
        try:
            if provider == "cpu" and not self._devices:
                return cpu_session(self.model, self.options)
            return self._on_device()
        except KdexportError:
            raise
        except Exception as error:
            raise RunError(
                f"ONNX Runtime cannot open '{self.model}' with the provider "
                f"'{provider}' ({first_line(error)})."
            ) from error

    def _on_device(self) -> Any:
        runtime, provider = onnxruntime_package(), self.options.provider
        options = session_options(self.model, self.options.threads)
        preload_libraries(provider, runtime)
        providers = None
        if self._devices:
            chosen = provider_options(provider, self._setup)
            options.add_provider_for_devices(self._devices, chosen)
        else:
            available = runtime.get_available_providers()
            providers = session_providers(provider, self._setup, available)
        # Otherwise a failing accelerator is replaced by the CPU, with no more than a print.
        return runtime.InferenceSession(
            str(self.model), options, providers=providers, enable_fallback=0
        )

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


def _require_available(provider: str) -> list[Any]:
    """Devices of the plugin that has the provider, none where it is built in."""
    runtime = onnxruntime_package()
    available = runtime.get_available_providers()
    if PROVIDERS[provider] in available:
        return []
    devices = plugin_devices(provider, runtime)
    if not devices:
        names = [short for short, long in PROVIDERS.items() if long in available]
        raise ProviderError(
            f"The installed onnxruntime has no provider '{provider}', only {listing(names)}; "
            "choose one of these, or install the onnxruntime package that has it."
        )
    return devices
