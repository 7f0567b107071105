"""The interface of every engine: open, describe, run, close.

The shape is Polygraphy's `BaseRunner`: a context manager whose contract (names, dtypes, ranks,
fixed sizes) is checked once, here, so that a subclass writes the body of its engine only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core.errors import BundleError, RunError, listing
from ..core.manifest import TensorSpec

R = TypeVar("R", bound="Runner")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Runner(ABC):
    """One model file on one engine; opened and closed any number of times.

    Use it as a context manager::

        with OrtRunner(path) as runner:
            result = runner.run({"sample": latents, …})
    """

    def __init__(self, model: Path) -> None:
        self.model = Path(model)
        self._signature: Signature | None = None

    @property
    def is_open(self) -> bool:
        """Whether the model is loaded."""
        return self._signature is not None

    def open(self) -> None:
        """Loads the model; does nothing where it is loaded already.

        Raises:
            RunError: The engine cannot load the model.
        """
        if self._signature is None:
            self._signature = self._open()

    def close(self) -> None:
        """Frees the model; does nothing where it is closed already."""
        if self._signature is not None:
            self._signature = None
            self._close()

    def __enter__(self: R) -> R:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def describe(self) -> Signature:
        """The inputs and outputs of the model; raises `RunError` where it is not open."""
        if self._signature is None:
            raise RunError(f"The model '{self.model}' is not open; open it before it is used.")
        return self._signature

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> Arrays:
        """Runs the model once.

        Args:
            feed: An array for each input. Names, dtypes, ranks and fixed sizes must be those of
                `describe`, and a named dimension must have one size wherever it occurs.
            outputs: Names of the outputs wanted, or None for all.

        Returns:
            The outputs by name, in the order asked for; no array shares memory with `feed`.

        Raises:
            RunError: The model is not open, the contract is broken, or the engine failed.
        """
        signature = self.describe()
        names = [spec.name for spec in signature.outputs]
        wanted = names if outputs is None else list(outputs)
        for name in wanted:
            if name not in names:
                raise RunError(
                    f"The model '{self.model}' has no output '{name}', only {listing(names)}."
                )
        _check_feed(feed, signature.inputs, self.model)
        results = self._run(feed, wanted)
        specs = {spec.name: spec for spec in signature.outputs}
        for name in wanted:
            _check_tensor(results[name], specs[name], f"The output of '{self.model}'")
        return results

    @abstractmethod
    def _open(self) -> Signature:
        """Loads the model and returns its inputs and outputs."""

    @abstractmethod
    def _run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """Runs the model on a checked feed; the results must not share memory with it."""

    @abstractmethod
    def _close(self) -> None:
        """Frees what `_open` took."""


def require_same(file: str, said: Signature, found: Signature) -> None:
    """Raises `BundleError` where a model's names or dtypes differ from what the manifest says.

    Args:
        file: The model, as the manifest names it.
        said: What the manifest says.
        found: What the model has.
    """
    for what, ours, theirs in (
        ("inputs", said.inputs, found.inputs),
        ("outputs", said.outputs, found.outputs),
    ):
        expected = {spec.name: spec.dtype for spec in ours}
        actual = {spec.name: spec.dtype for spec in theirs}
        if expected != actual:
            raise BundleError(
                f"The {what} of '{file}' are {actual}, but the manifest says {expected}; export "
                "the model again."
            )


def _check_feed(feed: Mapping[str, NDArray[Any]], specs: Sequence[TensorSpec], model: Path) -> None:
    expected = [spec.name for spec in specs]
    missing = [name for name in expected if name not in feed]
    surplus = [name for name in feed if name not in expected]
    if missing or surplus:
        raise RunError(
            f"The model '{model}' takes the inputs {listing(expected)}; "
            + " and ".join(
                f"{what} {listing(names)}"
                for what, names in (("lacking:", missing), ("unknown:", surplus))
                if names
            )
            + "."
        )
    sizes: dict[str, tuple[int, str]] = {}
    for spec in specs:
        array = feed[spec.name]
        _check_tensor(array, spec, f"The input of '{model}'")
        for dimension, size in zip(spec.shape, array.shape, strict=True):
            if isinstance(dimension, int):
                continue
            known, where = sizes.setdefault(dimension, (size, spec.name))
            if known != size:
                raise RunError(
                    f"The inputs of '{model}' disagree on '{dimension}': '{where}' has {known}, "
                    f"'{spec.name}' has {size}; feed one size."
                )


def _check_tensor(array: NDArray[Any], spec: TensorSpec, what: str) -> None:
    """Checks dtype, rank and fixed sizes; named sizes may be anything."""
    if not isinstance(array, np.ndarray):
        raise RunError(f"{what} '{spec.name}' must be a NumPy array, not {type(array).__name__}.")
    if array.dtype.name != spec.dtype:
        raise RunError(
            f"{what} '{spec.name}' must have dtype {spec.dtype}, not {array.dtype.name}."
        )
    fits = len(array.shape) == len(spec.shape) and all(
        not isinstance(dimension, int) or dimension == size
        for dimension, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise RunError(
            f"{what} '{spec.name}' must have shape {_shape(spec.shape)}, not {_shape(array.shape)}."
        )


def _shape(shape: Sequence[int | str]) -> str:
    return f"({', '.join(str(size) for size in shape)})"
