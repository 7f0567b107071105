"""The engines by name, each loaded when it is asked for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..core.errors import BundleError, OptionError, choices
from ..core.manifest import Component, Manifest
from .base import Runner
from .coreml_component import CoremlComponent

# Name to "module:class" of a `Runner` with a `create` method.
RUNTIMES = {
    "onnxruntime": "ort:OrtRunner",
    "mil": "mil.runner:MilRunner",
    "coreml": "coreml:CoremlRunner",
}

# The kind of bundle that an engine reads.
BACKENDS = {
    "onnxruntime": "onnx",
    "mil": "coreml",
    "coreml": "coreml",
}


@dataclass(frozen=True)
class Engine:
    """What runs a bundle.

    Attributes:
        runtime: A key of `RUNTIMES`.
        provider: What the engine runs on; each engine lists its own.
        threads: CPU threads, or None for the engine's default.
    """

    runtime: str
    provider: str
    threads: int | None = None

    @classmethod
    def choose(
        cls,
        manifest: Manifest,
        bundle: Path,
        runtime: str | None = None,
        provider: str | None = None,
        threads: int | None = None,
    ) -> Engine:
        """Fills in what the user left open.

        Args:
            manifest: Of the bundle.
            bundle: Its folder.
            runtime: A key of `RUNTIMES`, or None for the one that reads such bundles here.
            provider: What the engine runs on, or None for the CPU; for Core ML itself the compute
                units that the bundle was made for.
            threads: CPU threads, or None for the engine's default.

        Raises:
            OptionError: No such runtime.
            BundleError: The runtime does not read this kind of bundle.
        """
        if runtime is None:
            runtime = _default_runtime(manifest.backend)
        require_runtime(runtime)
        require_backend(runtime, manifest.backend, bundle)
        if provider is None:
            own = manifest.coreml if runtime == "coreml" else None
            provider = own.compute_units if own else "cpu"
        return cls(runtime, provider, threads)

    def runner(self, model: Path) -> Runner:
        """Makes the runner of a model file without loading the model.

        Raises:
            OptionError: An option that the engine refuses.
            DependencyError: The engine's package is not installed.
            ProviderError: The provider is not available on this machine.
        """
        module, name = RUNTIMES[self.runtime].split(":")
        kind: Any = getattr(import_module(f".{module}", __package__), name)
        runner: Runner = kind.create(model, self.provider, self.threads)
        return runner

    def component(self, component: Component, bundle: Path) -> Runner:
        """Makes the runner of a component, which takes and gives what the loop does.

        Raises what `runner` does.
        """
        runners = [self.runner(bundle / name) for name in component.files]
        if BACKENDS[self.runtime] == "coreml":
            return CoremlComponent(component, bundle, runners)
        return runners[0]


def require_runtime(runtime: str) -> None:
    """Raises `OptionError` naming the runtimes there are, where `runtime` is none of them."""
    if runtime not in RUNTIMES:
        raise OptionError(f"There is no runtime '{runtime}'; choose {choices(RUNTIMES)}.")


def require_backend(runtime: str, backend: str, bundle: Path) -> None:
    """Raises `BundleError` where a runtime does not read this kind of bundle."""
    if BACKENDS[runtime] == backend:
        return
    fitting = [name for name, reads in BACKENDS.items() if reads == backend]
    advice = f"choose the runtime {choices(fitting)}" if fitting else "export the model to ONNX"
    raise BundleError(
        f"'{bundle}' is a bundle for {backend}, which the runtime '{runtime}' does not read; "
        f"{advice}."
    )


def _default_runtime(backend: str) -> str:
    if backend == "coreml":
        return "coreml" if sys.platform == "darwin" else "mil"
    return "onnxruntime"
