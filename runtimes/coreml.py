"""Core ML itself, on macOS: packages through Apple's framework."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import OptionError, ProviderError, RunError, choices, first_line
from .base import Arrays, Runner, Signature

# The names that the manifest has, to those of coremltools.
COMPUTE_UNITS = {
    "all": "ALL",
    "cpu": "CPU_ONLY",
    "cpu-only": "CPU_ONLY",
    "cpu-and-gpu": "CPU_AND_GPU",
    "cpu-and-neural-engine": "CPU_AND_NE",
}


class CoremlRunner(Runner):
    """One `.mlpackage` in Core ML; the provider is the set of compute units that it may use.

    Raises:
        OptionError: There is no such set of compute units, or threads are asked for.
        ProviderError: This is no Mac.
        DependencyError: coremltools is not installed.
    """

    def __init__(self, model: Path, compute_units: str = "all") -> None:
        super().__init__(model)
        if compute_units not in COMPUTE_UNITS:
            raise OptionError(
                f"Core ML has no compute units '{compute_units}'; choose {choices(COMPUTE_UNITS)}."
            )
        if platform.system() != "Darwin":
            raise ProviderError(
                "Core ML runs on Apple's systems only; choose the runtime 'mil', which evaluates "
                "the same packages anywhere."
            )
        self._units = COMPUTE_UNITS[compute_units]
        self._toolbox = _coremltools()
        self._model: Any = None

    @classmethod
    def create(cls, model: Path, provider: str, threads: int | None) -> CoremlRunner:
        """Makes a runner from the options that every engine shares."""
        if threads is not None:
            raise OptionError("Core ML chooses its threads itself; leave their number out.")
        return cls(model, provider)

    def _open(self) -> Signature:
        # Inside functions: these modules load torch.
        from .mil.package import read_package
        from .mil.signature import output_specs

        package = read_package(self.model)
        inputs = tuple(port.spec() for port in package.inputs)
        signature = Signature(inputs, output_specs(package.outputs, package.function.outputs))
        units = getattr(self._toolbox.ComputeUnit, self._units)
        try:
            self._model = self._toolbox.models.MLModel(str(self.model), compute_units=units)
        # coremltools passes on whatever the framework raises.
        except Exception as error:
            raise RunError(f"Core ML cannot load '{self.model}': {first_line(error)}") from error
        return signature

    def _run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        try:
            results = self._model.predict(dict(feed))
        except Exception as error:
            raise RunError(f"Core ML failed to run '{self.model}': {first_line(error)}") from error
        dtypes = {spec.name: spec.dtype for spec in self.describe().outputs}
        return {name: np.array(results[name], dtype=dtypes[name]) for name in outputs}

    def _close(self) -> None:
        self._model = None


def _coremltools() -> ModuleType:
    # Inside a function: the module beside it computes with torch.
    from .mil.toolbox import coremltools

    return coremltools()
