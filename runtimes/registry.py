"""The engines by name, each loaded when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ..core.engines import ENGINES
from ..core.errors import BundleError, OptionError, choices
from ..core.manifest import Component, EngineRecord, Manifest
from .base import Runner
from .components import Components
from .coreml_component import CoremlComponent
from .loop import Loop
from .openvino_devices import Device
from .ort_options import OrtOptions

# Name to "module:class" of a `Runner`; all but those of `ENGINE_KINDS` have a `create` method.
RUNTIMES = {
    "onnxruntime": "ort:OrtRunner",
    "tensorrt-rtx": "tensorrt.runner:TensorrtRunner",
    "tensorrt": "tensorrt.runner:TensorrtRunner",
    "openvino": "openvino:OpenvinoRunner",
    "mil": "mil.runner:MilRunner",
    "coreml": "coreml:CoremlRunner",
}

# The kinds of bundle that an engine reads; the components of one for TensorRT are ONNX files.
BACKENDS = {
    "onnxruntime": ("onnx", "tensorrt"),
    "tensorrt-rtx": ("tensorrt",),
    "tensorrt": ("tensorrt",),
    "openvino": ("onnx", "tensorrt"),
    "mil": ("coreml",),
    "coreml": ("coreml",),
}

# The kind of built engine that a runtime needs, as `EngineRecord.kind` has it.
ENGINE_KINDS = {library.runtime: kind for kind, library in ENGINES.items()}

Maker = Callable[[Component], Runner]


@dataclass(frozen=True)
class Engine:
    """What runs a bundle.

    Attributes:
        runtime: A key of `RUNTIMES`.
        provider: What the engine runs on; each engine lists its own.
        threads: CPU threads, or None for the engine's default.
        engines: The built engines that are run, one for each component; empty where the runtime
            needs none.
        low_memory: Each component is open only while it is used, and takes no memory to be faster.
        cached: ONNX Runtime starts from what an earlier program made of a model; where the files
            were compared with the manifest, whose hashes it is found by.
    """

    runtime: str
    provider: str
    threads: int | None = None
    engines: tuple[EngineRecord, ...] = ()
    low_memory: bool = False
    cached: bool = False

    @property
    def computed_in(self) -> str | None:
        """`precision_of` the components, in words."""
        return Device.of(self.provider).described if self.runtime == "openvino" else None

    def precision_of(self, role: str) -> str | None:
        """What a component is computed in whatever its own precision; None where that decides."""
        if self.runtime != "openvino":
            return None
        return Device.of(self.provider).of_role(role).precision

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
            runtime: A key of `RUNTIMES`, or None for the one that reads such bundles here: that
                of its TensorRT engines only where there is an NVIDIA GPU.
            provider: What the engine runs on, or None for the CPU; for TensorRT the first GPU, for
                Core ML itself the compute units that the bundle was made for.
            threads: CPU threads, or None for the engine's default.

        Raises:
            OptionError: No such runtime, or an option that it does not have.
            BundleError: The runtime does not read this kind of bundle.
            DependencyError: A package that runs the bundle's TensorRT engines is not installed.
            ProviderError: Its TensorRT engines do not run on this machine.
        """
        if runtime is None:
            runtime = _default_runtime(manifest)
        require_runtime(runtime)
        require_backend(runtime, manifest.backend, bundle)
        if runtime in ENGINE_KINDS:
            return cls._of_engines(manifest, runtime, provider or "cuda", threads)
        if provider is None:
            own = manifest.coreml if runtime == "coreml" else None
            provider = own.compute_units if own else "cpu"
        return cls(runtime, provider, threads)

    @classmethod
    def _of_engines(
        cls, manifest: Manifest, runtime: str, provider: str, threads: int | None
    ) -> Engine:
        from .tensorrt.machine import engines_here

        if threads is not None:
            raise OptionError("TensorRT runs on a GPU; leave the number of CPU threads out.")
        engines = engines_here(manifest, ENGINE_KINDS[runtime], provider)
        return cls(runtime, provider, None, engines)

    def runner(self, model: Path) -> Runner:
        """Makes the runner of a model file without loading the model.

        Raises:
            OptionError: An option that the engine refuses.
            DependencyError: The engine's package is not installed.
            ProviderError: The provider is not available on this machine.
        """
        module, name = RUNTIMES[self.runtime].split(":")
        kind: Any = getattr(import_module(f".{module}", __package__), name)
        if self.runtime == "onnxruntime":
            # It alone has more options than those that every engine shares.
            own = {"low_memory": self.low_memory, "cached": self.cached}
            runner: Runner = kind(model, OrtOptions(self.provider, self.threads, **own))
        else:
            runner = kind.create(model, self.provider, self.threads)
        return runner

    def maker(self, bundle: Path) -> Maker:
        """What makes the runners of a bundle's components; they share what the engine can share.

        It raises what `runner` does.
        """
        if self.engines:
            from .tensorrt.runner import RunnerMaker

            return RunnerMaker(bundle, self.engines, self.provider)
        return lambda component: self._on_host(component, bundle)

    def component(self, component: Component, bundle: Path) -> Runner:
        """Makes the runner of a component, which takes and gives what the loop does.

        Raises what `runner` does.
        """
        return self.maker(bundle)(component)

    def loop(self, manifest: Manifest, bundle: Path) -> Loop:
        """Makes what draws with a bundle; nothing is loaded.

        Args:
            manifest: Of the bundle.
            bundle: Its folder.

        Raises what `runner` does, and `BundleError` where a tokenizer cannot be read.
        """
        if self.engines:
            from .tensorrt.loop import make_loop

            return make_loop(manifest, bundle, self.engines, self.provider, self.low_memory)
        return Loop(manifest, bundle, Components(manifest, self.maker(bundle), self.low_memory))

    def _on_host(self, component: Component, bundle: Path) -> Runner:
        engine = self
        if self.runtime == "openvino":
            engine = replace(
                self, provider=Device.of(self.provider).of_role(component.role).provider
            )
        runners = [engine.runner(bundle / name) for name in component.files]
        if "coreml" in BACKENDS[self.runtime]:
            return CoremlComponent(component, bundle, runners)
        return runners[0]


def require_runtime(runtime: str) -> None:
    """Raises `OptionError` naming the runtimes there are, where `runtime` is none of them."""
    if runtime not in RUNTIMES:
        raise OptionError(f"There is no runtime '{runtime}'; choose {choices(RUNTIMES)}.")


def require_backend(runtime: str, backend: str, bundle: Path) -> None:
    """Raises `BundleError` where a runtime does not read this kind of bundle."""
    if backend in BACKENDS[runtime]:
        return
    fitting = [name for name, reads in BACKENDS.items() if backend in reads]
    advice = f"choose the runtime {choices(fitting)}" if fitting else "export the model to ONNX"
    raise BundleError(
        f"'{bundle}' is a bundle for {backend}, which the runtime '{runtime}' does not read; "
        f"{advice}."
    )


def _default_runtime(manifest: Manifest) -> str:
    if manifest.backend == "coreml":
        return "coreml" if sys.platform == "darwin" else "mil"
    if manifest.backend == "tensorrt" and manifest.engines:
        from .tensorrt.machine import gpu_present

        if gpu_present():
            return ENGINES[manifest.engines[0].kind].runtime
    return "onnxruntime"
