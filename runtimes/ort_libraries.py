"""Libraries that ONNX Runtime's providers need beside onnxruntime itself: plugins, CUDA, cuDNN."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from importlib import import_module
from typing import Any

from ..core.errors import ProviderError, first_line
from .ort_providers import DEVICES, PROVIDERS

# Provider to the Python package that carries it as a plugin, where onnxruntime has it not built in.
PLUGINS = {"nv_tensorrt_rtx": "onnxruntime_ep_nv_tensorrt_rtx"}


def plugin_devices(provider: str, runtime: Any) -> list[Any]:
    """The devices of a provider that is not built in but was, or can be, registered as a plugin.

    Args:
        provider: A key of `PROVIDERS`.
        runtime: The module `onnxruntime`.

    Returns:
        `OrtEpDevice` objects for `SessionOptions.add_provider_for_devices`; empty without a plugin,
        or where it finds no device.

    Raises:
        ProviderError: The plugin's package is installed, but ONNX Runtime cannot load it.
    """
    name = PROVIDERS[provider]
    devices = [each for each in runtime.get_ep_devices() if each.ep_name == name]
    package = PLUGINS.get(provider)
    if devices or package is None or importlib.util.find_spec(package) is None:
        return devices
    try:
        library = import_module(package).get_library_path()
        runtime.register_execution_provider_library(name, library)
    except Exception as error:
        raise ProviderError(
            f"ONNX Runtime cannot load the provider '{provider}' from the package '{package}' "
            f"({first_line(error)}); install versions of both that fit."
        ) from error
    return [each for each in runtime.get_ep_devices() if each.ep_name == name]


def preload_libraries(provider: str, runtime: Any) -> None:
    """Loads CUDA and cuDNN from their Python packages, where onnxruntime is built for them."""
    if provider in DEVICES:
        # It prints what it cannot find, on the stream that `--json` is written to.
        with contextlib.redirect_stdout(sys.stderr):
            runtime.preload_dlls()
