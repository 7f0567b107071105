"""The one error tree: every failure that a user can cause or mend is a `KdexportError`.

A message is one sentence or two: what is wrong, where, and what to do about it. The command line
prints it without a traceback and exits with `exit_code`; anything else that escapes is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable


class KdexportError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class OptionError(KdexportError):
    """An option has a value that does not exist or does not fit the others."""


class DependencyError(KdexportError):
    """An optional package that this operation needs is not installed."""


class CheckpointError(KdexportError):
    """The model to export cannot be found, read or understood."""


class WeightsError(CheckpointError):
    """The weights of a checkpoint do not fit the architecture that its config describes."""


class SamplerError(KdexportError):
    """A scheduler cannot be compiled, or a run asks for a table that the bundle does not hold."""


class ExportError(KdexportError):
    """A component cannot be turned into the wanted format."""


class RecipeError(KdexportError):
    """A recipe cannot be read, or is for another model or backend."""


class BundleError(KdexportError):
    """A bundle is missing, damaged, newer than this version, or in the way of a new one."""


class DiskSpaceError(BundleError):
    """The target disk is too small for what would be written."""


class CalibrationError(KdexportError):
    """Calibration data is missing, damaged, of another model, or holds what is no number."""


class ProviderError(KdexportError):
    """The wanted execution provider is not available on this machine."""


class RunError(KdexportError):
    """An engine failed, was fed or gave what the model's contract forbids, or is closed."""


class HubError(KdexportError):
    """The Hugging Face Hub cannot be reached, or does not take what is sent to it."""


class ParityError(KdexportError):
    """The exported model does not draw what the reference draws."""

    exit_code = 3


class CheckpointWarning(UserWarning):
    """A checkpoint is not quite what it says, and was read all the same; the text says how."""


def choices(names: Iterable[str]) -> str:
    """Formats the valid values of an option for an error message: ``a, b or c``."""
    ordered = list(names)
    if len(ordered) < 2:
        return "".join(ordered)
    return f"{', '.join(ordered[:-1])} or {ordered[-1]}"


def listing(names: Iterable[str], most: int = 8) -> str:
    """Formats possibly many names for an error message, the first `most` and a count."""
    ordered = list(names)
    shown = ", ".join(ordered[:most])
    return shown if len(ordered) <= most else f"{shown} and {len(ordered) - most} more"


def first_line(error: BaseException) -> str:
    """What a library says, without its further lines, for one sentence; its class if nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:")[:300] if lines else type(error).__name__
