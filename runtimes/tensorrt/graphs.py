"""Work that is done again and again, as a CUDA graph from the second time on.

A graph holds the addresses that were bound when it was captured, and belongs to one execution
context with one set of shapes: NVIDIA asks for a context for each graph, since changing a context
spoils the graphs captured from it, and for a run without a graph first, in which TensorRT does what
it had put off ("CUDA Graphs" in the best practices of its documentation).

Written without a GPU: run against a stand-in only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from ...core.errors import RunError
from .tensor import Device


class Replay:
    """One piece of work: run as it is the first time, captured the second, then replayed."""

    def __init__(self, device: Device, what: str, capturable: Callable[[], bool]) -> None:
        """Starts with nothing captured.

        Args:
            device: Where the work is done.
            what: What messages call the work.
            capturable: Whether it may be captured; asked once, when it was done once.
        """
        self._device = device
        self._what = what
        self._capturable = capturable
        self._captures: bool | None = None
        self._bound: Hashable = None
        self._graph: int | None = None

    def run(self, bound: Hashable, bind: Callable[[], None], work: Callable[[], None]) -> None:
        """Does the work.

        Args:
            bound: Every address that the work reads or writes; where one of them moved since the
                last time, what was captured is thrown away.
            bind: Hands the addresses to the engine.
            work: Asks for the work.

        Raises:
            RunError: The work failed, or cannot be captured.
        """
        if bound != self._bound:
            self.close()
            bind()
            work()
            self._bound = bound
            return
        if self._captures is None:
            self._captures = self._capturable()
        if not self._captures:
            work()
            return
        if self._graph is None:
            self._graph = self._capture(work)
        self._device.replay(self._graph)

    def close(self) -> None:
        """Throws away what was captured."""
        self._bound = None
        if self._graph is not None:
            graph, self._graph = self._graph, None
            self._device.forget(graph)

    def _capture(self, work: Callable[[], None]) -> int:
        try:
            return self._device.capture(work)
        except RunError as error:
            raise RunError(
                f"{self._what} cannot be recorded in a CUDA graph: {error} The provider "
                "'cuda-no-graphs' runs without them."
            ) from error
