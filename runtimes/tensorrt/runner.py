"""A component as a TensorRT engine: NumPy arrays in and out, or tensors that stay on the GPU.

Written without a GPU: run against a stand-in only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...core.errors import RunError
from ...core.manifest import Component, EngineRecord
from ..base import Arrays, Runner, Signature
from .engine import LoadedEngine
from .limits import bounds
from .session import Session
from .tensor import Tensor


class TensorrtRunner(Runner):
    """One engine. Runners that were given the same session share stream and activation memory."""

    def __init__(
        self, bundle: Path, component: Component, record: EngineRecord, session: Session
    ) -> None:
        """Remembers the engine; nothing is loaded.

        Args:
            bundle: The bundle's folder.
            component: The component.
            record: The engine of it that this machine runs.
            session: What the engines of the bundle share.
        """
        super().__init__(bundle / record.file)
        self.record = record
        self._bundle, self._component, self._session = bundle, component, session
        self._engine: LoadedEngine | None = None

    def rows(self, name: str) -> tuple[int, int]:
        """The fewest and the most rows of an input that the engine takes at once."""
        found = bounds(self.record, name, 0)
        if found is not None:
            return found
        rows = next(spec.shape[0] for spec in self._component.inputs if spec.name == name)
        raise RunError(
            f"The profile of the engine '{self.record.file}' does not say how many rows ('{rows}') "
            f"of '{name}' it takes; build it again."
        )

    def dtype(self, name: str) -> str:
        """The dtype of an input or output in device memory; the runner must be open."""
        return self._opened().dtypes[name]

    def enqueue(self, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Asks for one run without waiting for it.

        Args:
            feed: A tensor for each input, of the dtype that `dtype` says.

        Returns:
            Every output, in memory that the next run of this runner writes over.

        Raises:
            RunError: The runner is not open, the shapes are outside the engine's profile, or
                TensorRT or CUDA refused.
        """
        return self._opened().run(feed)

    def _open(self) -> Signature:
        self._session.acquire()
        try:
            self._engine = LoadedEngine(self._bundle, self._component, self.record, self._session)
        except BaseException:
            self._session.release()
            raise
        return Signature(self._component.inputs, self._component.outputs)

    def _run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        device, engine = self._session.opened.device, self._opened()
        tensors = {}
        for name, array in feed.items():
            dtype = engine.dtypes[name]
            tensors[name] = engine.inputs.tensor(name, dtype, array.shape)
            device.upload(tensors[name], array.astype(dtype, copy=False))
        results = engine.run(tensors)
        specs = {spec.name: spec.dtype for spec in self._component.outputs}
        return {
            name: device.download(results[name]).astype(specs[name], copy=False) for name in outputs
        }

    def _close(self) -> None:
        engine, self._engine = self._engine, None
        try:
            if engine is not None:
                engine.close()
        finally:
            self._session.release()

    def _opened(self) -> LoadedEngine:
        if self._engine is None:
            raise RunError(f"The model '{self.model}' is not open; open it before it is used.")
        return self._engine


def as_tensorrt(runner: Runner) -> TensorrtRunner:
    """A runner of the loop on the GPU; raises `RunError` where it is of another engine."""
    if not isinstance(runner, TensorrtRunner):
        raise RunError("The loop on the GPU runs TensorRT engines only; please report this.")
    return runner


class RunnerMaker:
    """Makes the runners of a bundle, which share one session.

    Attributes:
        session: What they share.
    """

    def __init__(self, bundle: Path, engines: Sequence[EngineRecord], provider: str) -> None:
        """Takes the engines that this machine runs, one for each component."""
        self._bundle = bundle
        self._engines = {each.role: each for each in engines}
        self.session = Session(engines[0].kind, provider)

    def __call__(self, component: Component) -> TensorrtRunner:
        """Makes the closed runner of a component."""
        return TensorrtRunner(self._bundle, component, self._engines[component.role], self.session)

    def record(self, role: str) -> EngineRecord:
        """The engine of a component."""
        return self._engines[role]
