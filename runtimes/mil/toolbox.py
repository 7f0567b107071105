"""coremltools, loaded when it is first needed and without its chatter."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from ...core.errors import DependencyError


def coremltools(submodule: str = "") -> ModuleType:
    """Imports coremltools, or one of its modules.

    On Linux it warns at import about the versions of torch and scikit-learn and about its missing
    native proxy, none of which concerns reading a program; those lines are swallowed.

    Args:
        submodule: A dotted name inside the package, such as "optimize.coreml".

    Raises:
        DependencyError: coremltools is not installed.
    """
    name = f"coremltools.{submodule}" if submodule else "coremltools"
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    with quiet():
        try:
            return import_module(name)
        except ImportError as error:
            raise DependencyError(
                "Reading Core ML packages needs coremltools; install it with "
                "`pip install kdexport[coreml]`."
            ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps warnings, log lines below errors and prints of the block from showing."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    sink = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(sink),
            contextlib.redirect_stderr(sink),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
