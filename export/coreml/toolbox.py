"""coremltools, imported when it is needed, without its chatter and its progress bars."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ...core.errors import (
    DependencyError,
    ExportError,
    KdexportError,
    OptionError,
    choices,
    first_line,
)

# Deployment targets, and the version of the file format that each of them reads.
TARGETS = {"iOS16": 7, "iOS17": 8, "iOS18": 9}

# Called with how far the work is, 0 to 1; what it raises ends the work.
Progress = Callable[[float], None]

# Where coremltools draws its bars: module, and the name of tqdm in it.
_BARS = (
    ("converters.mil.frontend.torch.ops", "_tqdm"),
    ("converters.mil.mil.passes.pass_pipeline", "tqdm"),
)


def coremltools() -> Any:
    """The module `coremltools`.

    Raises:
        DependencyError: It is not installed.
    """
    with quiet():
        try:
            return importlib.import_module("coremltools")
        except ImportError as error:
            raise DependencyError(
                f"Core ML export needs coremltools, which cannot be imported ({error}); install it "
                "with `pip install kdexport[coreml]`."
            ) from error


def inside(name: str) -> Any:
    """The module `coremltools.<name>`, for what the package does not offer at its top."""
    loaded = sys.modules.get(f"coremltools.{name}")
    if loaded is not None:
        return loaded
    coremltools()
    with quiet():
        return importlib.import_module(f"coremltools.{name}")


def deployment_target(name: str) -> Any:
    """The member of `coremltools.target`.

    Raises:
        OptionError: There is no such target; the message lists those there are.
    """
    if name not in TARGETS:
        raise OptionError(f"There is no Core ML target '{name}'; choose {choices(TARGETS)}.")
    return getattr(coremltools().target, name)


@contextlib.contextmanager
def quiet() -> Iterator[list[str]]:
    """Keeps coremltools and torch from printing; yields the errors that coremltools logs.

    It logs untested versions, absent macOS libraries and, before it raises, which operation or
    pass failed.
    """
    logger = logging.getLogger("coremltools")
    collector = _Collector()
    previous = logger.level, logger.propagate
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(collector)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield collector.messages
    finally:
        logger.removeHandler(collector)
        logger.level, logger.propagate = previous


@contextlib.contextmanager
def progress_of(progress: Progress | None, spans: Sequence[tuple[float, float]]) -> Iterator[None]:
    """Reports what coremltools would draw as bars.

    Args:
        progress: Told how far the work is; None for silence.
        spans: From where to where each of the bars goes, in the order in which they appear.
    """
    modules = [(inside(name), attribute) for name, attribute in _BARS]
    previous = [getattr(module, attribute) for module, attribute in modules]
    bars = _Bars(progress, spans)
    try:
        for module, attribute in modules:
            setattr(module, attribute, bars)
        yield
    finally:
        for (module, attribute), value in zip(modules, previous, strict=True):
            setattr(module, attribute, value)


def part_of(progress: Progress | None, start: float, end: float) -> Progress | None:
    """Progress of a step of the work that goes from `start` to `end`."""
    if progress is None:
        return None
    return lambda share: progress(start + (end - start) * share)


@contextlib.contextmanager
def converting(
    what: str, progress: Progress | None, spans: Sequence[tuple[float, float]]
) -> Iterator[None]:
    """Runs coremltools in silence and turns what it raises into an `ExportError`.

    Args:
        what: What it is to do, for the message: `convert 'UNet2DConditionModel'`.
        progress: Told how far the work is.
        spans: See `progress_of`.
    """
    with quiet() as log, progress_of(progress, spans):
        try:
            yield
        except (KdexportError, OSError, MemoryError):
            raise
        except Exception as error:
            where = f" ({log[0].removeprefix('ERROR - ').rstrip(':')})" if log else ""
            raise ExportError(f"coremltools cannot {what}{where}: {first_line(error)}.") from error


class Releases:
    """Frees what was let go of, now and then.

    Operations and their variables refer to each other, so that only the garbage collector finds
    the weights of those that were removed.
    """

    _BLOCK = 256 << 20

    def __init__(self) -> None:
        """Nothing is let go yet."""
        self._bytes = 0

    def add(self, count: int) -> None:
        """Says that `count` bytes were let go."""
        self._bytes += count
        if self._bytes >= self._BLOCK:
            self._bytes = 0
            gc.collect()


class _Bars:
    """Stands in for tqdm."""

    def __init__(self, progress: Progress | None, spans: Sequence[tuple[float, float]]) -> None:
        self._progress = progress
        self._spans = list(spans)

    def __call__(self, items: Iterable[Any], **_: object) -> Iterator[Any]:
        start, end = self._spans.pop(0) if self._spans else (1.0, 1.0)
        items = list(items)
        for index, item in enumerate(items):
            if self._progress is not None:
                self._progress(start + (end - start) * index / len(items))
            yield item


class _Collector(logging.Handler):
    """Keeps the messages of errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one message, in one line."""
        self.messages.append(" ".join(record.getMessage().split()))
