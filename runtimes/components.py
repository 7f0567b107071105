"""The components of a bundle on one engine, kept open or opened only while they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..core.errors import BundleError, RunError
from ..core.manifest import Component, Manifest
from .base import Runner, require_same
from .ports import loop_signature

# The encoder takes no part in drawing from a prompt, only in drawing from a picture.
_DRAWING = ("text_encoder", "text_encoder_2", "controlnet", "unet", "vae_decoder")
_USED = (*_DRAWING, "vae_encoder")


class Components:
    """Owns one runner per component that drawing needs; the encoder's opens when it is used.

    Args:
        manifest: The bundle's description.
        make: Makes the closed runner of a component.
        low_memory: Open each component only while it is used, instead of all of them for good.
    """

    def __init__(
        self,
        manifest: Manifest,
        make: Callable[[Component], Runner],
        low_memory: bool = False,
    ) -> None:
        self._low_memory = low_memory
        self._closed = False
        used = [each for each in manifest.components if each.role in _USED]
        self._components = {each.role: each for each in used}
        self._runners = {each.role: make(each) for each in used}

    @property
    def runners(self) -> Mapping[str, Runner]:
        """The runner of each component by role, open or closed."""
        return self._runners

    def open(self) -> None:
        """Opens every component, unless they are opened only while used."""
        if self._low_memory:
            return
        try:
            for role in self._runners:
                if role in _DRAWING:
                    self._open(role)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Frees every component; none can be used afterwards."""
        self._closed = True
        for runner in self._runners.values():
            runner.close()

    @contextmanager
    def use(self, role: str) -> Iterator[Runner]:
        """Gives the open runner of a component.

        Raises:
            RunError: The components were closed, or the engine cannot load this one.
            BundleError: The bundle has no such component, or it differs from the manifest.
        """
        if self._closed:
            raise RunError("The pipeline was closed; load the bundle again.")
        if role not in self._runners:
            raise BundleError(f"The bundle has no component '{role}'; export the model again.")
        try:
            self._open(role)
            yield self._runners[role]
        finally:
            if self._low_memory:
                self._runners[role].close()

    def _open(self, role: str) -> None:
        runner = self._runners[role]
        if not runner.is_open:
            runner.open()
            component = self._components[role]
            try:
                require_same(component.file, loop_signature(component), runner.describe())
            except BundleError:
                runner.close()
                raise


def call(
    runner: Runner, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Runs a model whose floating tensors may be float16: casts them in, and back to float32.

    Args:
        runner: An open runner.
        feed: Inputs by name; floating ones of any precision, the others of the model's dtype.
        outputs: Names of the outputs wanted.
    """
    dtypes = {spec.name: spec.dtype for spec in runner.describe().inputs}
    cast = {
        name: array.astype(dtypes.get(name, array.dtype), copy=False)
        if np.issubdtype(array.dtype, np.floating)
        else array
        for name, array in feed.items()
    }
    results = runner.run(cast, outputs)
    return {name: results[name].astype(np.float32, copy=False) for name in outputs}


def call_by_rows(
    runner: Runner, name: str, rows: NDArray[Any], outputs: Sequence[str], most: int | None = None
) -> dict[str, NDArray[np.float32]]:
    """Runs a model with one input over any number of rows, in pieces of the size that it takes.

    Args:
        runner: An open runner. Where it takes no fewer rows, the last piece is filled up with
            copies.
        name: The input.
        rows: What to feed it, `(n, …)`.
        outputs: Names of the outputs wanted, `(n, …)` each.
        most: Largest piece where the batch is dynamic; None takes as many as the runner does.
    """
    least, largest = _rows_taken(runner, name, len(rows))
    size = max(least, min(most or largest, largest))
    pieces: dict[str, list[NDArray[np.float32]]] = {output: [] for output in outputs}
    for start in range(0, len(rows), size):
        piece = rows[start : start + size]
        short = max(least - len(piece), 0)
        padded = np.concatenate([piece, np.repeat(piece[-1:], short, axis=0)])
        results = call(runner, {name: padded}, outputs)
        for output in outputs:
            pieces[output].append(results[output][: len(piece)])
    return {output: np.concatenate(parts) for output, parts in pieces.items()}


@runtime_checkable
class BoundedRows(Protocol):
    """A runner whose engine takes certain numbers of rows only."""

    def rows(self, name: str) -> tuple[int, int]:
        """The fewest and the most rows of an input that it takes at once."""


def _rows_taken(runner: Runner, name: str, count: int) -> tuple[int, int]:
    """The fewest and the most rows that a runner takes at once, of `count` that there are."""
    if isinstance(runner, BoundedRows):
        return runner.rows(name)
    fixed = next(spec.shape[0] for spec in runner.describe().inputs if spec.name == name)
    return (fixed, fixed) if isinstance(fixed, int) else (1, max(count, 1))


def require_finite(array: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """Returns `array`; raises `RunError` where it holds NaN or Inf.

    Args:
        array: A result of a model.
        what: What gave it, the subject of the sentence.
    """
    if not np.isfinite(array).all():
        raise RunError(
            f"{what} gave NaN or infinite values; where the precision is fp16 or mixed, export "
            "with --precision fp32."
        )
    return array
