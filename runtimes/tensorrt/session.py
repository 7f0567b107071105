"""What the engines of a bundle share on a GPU: the stream, TensorRT's runtime, activation memory.

Written without a GPU: run against a stand-in only.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from functools import cache
from types import ModuleType
from typing import Any

from ...core.errors import RunError
from .buffers import ActivationMemory
from .device import CudaDevice
from .libraries import load_cuda, tensorrt_library
from .machine import Provider, read_machine
from .select import Machine

# Of TensorRT's messages, which are many; the last ones say why something failed.
_MESSAGES = 3


class Session:
    """Opened by the first engine that needs it, closed by the last one.

    Whoever uses it holds it: `acquire` before the first use and `release` after the last one.
    """

    def __init__(self, kind: str, provider: str) -> None:
        """Remembers what is wanted; nothing is opened yet.

        Args:
            kind: Kind of engines, `rtx` or `native`.
            provider: See `machine.Provider`; raises `OptionError` where it is none.
        """
        self.kind = kind
        self.provider = Provider.parse(provider)
        self._holders = 0
        self._opened: Opened | None = None

    @property
    def opened(self) -> Opened:
        """What is shared, with its GPU made that of the calling thread.

        Raises:
            RunError: Nobody holds the session.
        """
        if self._opened is None:
            raise RunError("The GPU was given back; load the bundle again.")
        # Another session, or another library, may have chosen another one since.
        self._opened.device.make_current()
        return self._opened

    def acquire(self) -> None:
        """Holds the session, and opens it where nobody did.

        Raises:
            DependencyError: TensorRT or CUDA's bindings are not installed.
            ProviderError: There is no such GPU, or no driver.
            RunError: CUDA or TensorRT refused.
        """
        if self._opened is None:
            self._opened = Opened(self.kind, self.provider)
        self._holders += 1

    def release(self) -> None:
        """Lets the session go, and closes it where nobody else holds it."""
        self._holders -= 1
        if not self._holders and self._opened is not None:
            opened, self._opened = self._opened, None
            opened.close()


class Opened:
    """What a session shares while it is open.

    Attributes:
        machine: The GPU, its driver and TensorRT.
        library: The package of TensorRT.
        device: The GPU.
        runtime: TensorRT's runtime, which deserialises engines.
        activation: The engines' activation memory.
        graphs: Whether CUDA graphs are used.
    """

    def __init__(self, kind: str, provider: Provider) -> None:
        cuda = load_cuda()
        self.library = tensorrt_library(kind)
        self.machine: Machine = read_machine(cuda, provider.ordinal, self.library.__version__)
        self.graphs = provider.graphs
        with ExitStack() as stack:
            self.device = CudaDevice(cuda, provider.ordinal, self.machine.capability)
            stack.callback(self.device.close)
            self._logger = shared_logger(self.library)
            if kind == "native":
                # Engines of TensorRT 8 may hold plugins of the library's own.
                self.library.init_libnvinfer_plugins(self._logger, "")
            self.runtime: Any = self.library.Runtime(self._logger)
            self.activation = ActivationMemory(self.device)
            stack.pop_all()

    def why(self) -> str:
        """What TensorRT said last, for the message of an error; asked for once."""
        said = "; ".join(self._logger.messages)[:600]
        self._logger.messages.clear()
        return f" ({said})" if said else ""

    def close(self) -> None:
        """Frees everything."""
        with ExitStack() as stack:
            stack.callback(self.device.close)
            self.runtime = None
            self.activation.close()


@cache
def shared_logger(library: ModuleType) -> Any:
    """A logger that keeps the last errors, in `messages`, and drops the rest.

    There is one for good: TensorRT wants a single logger in a process ("ILogger" in its reference),
    part of it keeps the first one that it was given, and older versions hear no other.
    """
    severity = library.ILogger.Severity
    kept = (severity.INTERNAL_ERROR, severity.ERROR)

    class Log(library.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.messages: deque[str] = deque(maxlen=_MESSAGES)

        def log(self, severity: Any, msg: str) -> None:
            if severity in kept:
                self.messages.append(msg.strip())

    return Log()
