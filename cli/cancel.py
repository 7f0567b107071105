"""Cancelling a command: SIGINT and SIGTERM both let it clean up after itself."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Long enough to leave the callback that lost the exception.
_AGAIN_SECONDS = 0.05


class Cancelled(KeyboardInterrupt):
    """The user, or the system, wants the command to stop.

    A class of its own, because Python ends a `python -m` process by signal, whatever its exit
    status, once a plain KeyboardInterrupt has passed through `exec` of a string (as dataclasses
    and torch.fx use it), even if it was caught: bugs.python.org issue 1054041.
    """


@contextmanager
def cancellable() -> Iterator[None]:
    """Turns SIGINT and SIGTERM into `Cancelled`, in the main thread.

    Python swallows what is raised inside a weak reference's callback or a `__del__`; a signal that
    arrives there is raised once more after it.
    """
    handlers = {number: signal.signal(number, _cancel) for number in _SIGNALS}
    hook = sys.unraisablehook

    def raise_again(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, Cancelled):
            timer = threading.Timer(_AGAIN_SECONDS, _interrupt)
            timer.daemon = True
            timer.start()
        else:
            hook(unraisable)

    sys.unraisablehook = raise_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt() -> None:
    """Signals the main thread itself where the system can, so that what it waits for ends."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


def _cancel(signum: int, frame: FrameType | None) -> NoReturn:
    raise Cancelled
