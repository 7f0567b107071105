"""The runner of `.mlpackage` files where there is no Core ML."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from ...core.errors import OptionError, RunError, choices
from ..base import Arrays, Runner, Signature
from .evaluate import Evaluator
from .package import Package, read_package
from .precision import AsWritten, Float32
from .signature import check_sizes, output_specs
from .toolbox import coremltools

# Provider to how values are rounded: to float16 where the package says so, or never.
PROVIDERS: dict[str, type[AsWritten] | type[Float32]] = {"cpu": AsWritten, "cpu-fp32": Float32}


@dataclass(frozen=True)
class MilOptions:
    """How a package is evaluated.

    Attributes:
        provider: A key of `PROVIDERS`.
        threads: Threads of torch while the package runs; None leaves torch's setting.
        keep_weights: Whether compressed weights are expanded once and kept between runs, which
            is faster over several steps and takes the memory of the uncompressed weights.
    """

    provider: str = "cpu"
    threads: int | None = None
    keep_weights: bool = False

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            raise OptionError(
                f"The Core ML evaluator has no provider '{self.provider}'; choose "
                f"{choices(PROVIDERS)}."
            )
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"The number of threads must be at least 1, not {self.threads}.")


class MilRunner(Runner):
    """One `.mlpackage` on torch's CPU kernels.

    Results are those of the program as written, not of Apple's kernels: values are rounded to
    float16 after each operation, while sums inside one are in float32.

    Raises:
        DependencyError: coremltools is not installed.
    """

    def __init__(self, model: Path, options: MilOptions | None = None) -> None:
        super().__init__(model)
        self.options = options or MilOptions()
        coremltools()
        self._package: Package | None = None
        self._evaluator: Evaluator | None = None

    @classmethod
    def create(cls, model: Path, provider: str, threads: int | None) -> MilRunner:
        """Makes a runner from the options that every engine shares."""
        return cls(model, MilOptions(provider=provider, threads=threads))

    def _open(self) -> Signature:
        package = read_package(self.model)
        self._evaluator = Evaluator(
            package.function,
            PROVIDERS[self.options.provider](),
            keep_weights=self.options.keep_weights,
        )
        self._package = package
        return Signature(
            inputs=tuple(port.spec() for port in package.inputs),
            outputs=output_specs(package.outputs, package.function.outputs),
        )

    def _run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        if self._package is None or self._evaluator is None:
            raise RunError(f"The model '{self.model}' is not open.")
        check_sizes(feed, self._package.inputs, self.model)
        with _threads(self.options.threads):
            results = self._evaluator.run(feed)
        dtypes = {port.name: port.dtype for port in self._package.outputs}
        return {name: results[name].astype(dtypes[name], copy=False) for name in outputs}

    def _close(self) -> None:
        self._package = None
        self._evaluator = None


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Gives torch a number of threads for the block; torch knows it for the process only."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)
