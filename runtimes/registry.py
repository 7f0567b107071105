"""The engines by name, each loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ..core.errors import BundleError, OptionError, choices
from .base import Runner

# Name to "module:class" of a `Runner`.
RUNTIMES = {
    "onnxruntime": "ort:OrtRunner",
}

# The kind of bundle that an engine reads.
BACKENDS = {
    "onnxruntime": "onnx",
}


def make_runner(
    model: Path, *, runtime: str = "onnxruntime", provider: str = "cpu", threads: int | None = None
) -> Runner:
    """Makes the runner of a model file without loading the model.

    Args:
        model: The file.
        runtime: A key of `RUNTIMES`.
        provider: What the engine runs on; each engine lists its own.
        threads: CPU threads, or None for the engine's default.

    Raises:
        OptionError: No such runtime, or an option that the engine refuses.
        DependencyError: The engine's package is not installed.
        ProviderError: The provider is not available on this machine.
    """
    require_runtime(runtime)
    module, name = RUNTIMES[runtime].split(":")
    kind: type[Runner] = getattr(import_module(f".{module}", __package__), name)
    return kind.create(model, provider, threads)


def open_runner(
    model: Path, *, runtime: str = "onnxruntime", provider: str = "cpu", threads: int | None = None
) -> Runner:
    """Makes a runner and loads its model; close it, or use it in a `with` block.

    Takes and raises what `make_runner` does, and `RunError` where the engine cannot load it.
    """
    runner = make_runner(model, runtime=runtime, provider=provider, threads=threads)
    runner.open()
    return runner


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
