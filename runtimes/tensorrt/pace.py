"""Keeps the host a little ahead of the device, and no further.

Written without a GPU: run against a stand-in only.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType

from .tensor import Device


class Pace:
    """Waits for earlier work where too much was asked for; at the end, for all of it.

    What is asked for is done later: without a limit, progress would be told long before it is made,
    and cancelling would not stop what is asked for already.
    """

    def __init__(self, device: Device, ahead: int) -> None:
        """Begins.

        Args:
            device: Where the work is done.
            ahead: Pieces of work that may be asked for and not done.
        """
        self._device, self._ahead = device, ahead
        self._marks: deque[int] = deque()

    def step(self) -> None:
        """Ends a piece of work; waits where there are too many."""
        self._marks.append(self._device.mark())
        if len(self._marks) > self._ahead:
            self._device.wait(self._marks.popleft())

    def __enter__(self) -> Pace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._marks:
            self._device.wait(self._marks.popleft())
