"""A component in Core ML packages, behind the inputs and outputs that the loop has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.manifest import Component, TensorSpec
from .base import Arrays, Runner, Signature, require_same
from .ports import SCALARS, is_tiny_encoding, loop_signature


class CoremlComponent(Runner):
    """Feeds packages with a fixed number of rows, one chunk after the other."""

    def __init__(self, component: Component, bundle: Path, runners: Sequence[Runner]) -> None:
        """Takes the closed runners of the packages, in the order in which they run."""
        super().__init__(bundle / component.file)
        self._component = component
        self._runners = tuple(runners)
        self._halved = {
            name for port, name in component.ports.items() if is_tiny_encoding(port, name)
        }

    def _open(self) -> Signature:
        try:
            for runner in self._runners:
                runner.open()
            self._require_recorded()
        except BaseException:
            self._close()
            raise
        return loop_signature(self._component)

    def _close(self) -> None:
        for runner in self._runners:
            runner.close()

    def _run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        ports = self._component.ports
        pieces = []
        for values in package_feeds(self._component, feed):
            for runner in self._runners:
                taken = [spec.name for spec in runner.describe().inputs]
                values |= runner.run({name: values[name] for name in taken})
            pieces.append({ports[each.name]: values[each.name] for each in self._component.outputs})
        count = _rows(feed)
        scale = np.float32(feed.get("conditioning_scale", 1) / self._component.residual_scale)
        results = {}
        for name in outputs:
            array = np.concatenate([piece[name] for piece in pieces])[:count]
            array = array.astype(np.float32, copy=False)
            if name in self._halved:
                array = np.split(array, 2, axis=1)[0]
            results[name] = array * scale
        return results

    def _require_recorded(self) -> None:
        """Holds the packages against the manifest; between chunks there may be anything."""
        made: set[str] = set()
        inputs: list[TensorSpec] = []
        for runner in self._runners:
            signature = runner.describe()
            known = made | {spec.name for spec in inputs}
            inputs += [spec for spec in signature.inputs if spec.name not in known]
            made |= {spec.name for spec in signature.outputs}
        last = self._runners[-1].describe().outputs
        said = Signature(self._component.inputs, self._component.outputs)
        require_same(self._component.file, said, Signature(tuple(inputs), last))


def package_feeds(component: Component, feed: Mapping[str, NDArray[Any]]) -> Iterator[Arrays]:
    """What a component's packages are fed for an input of the loop, call after call.

    Args:
        component: The manifest's record.
        feed: Inputs of `loop_signature`, of any number of rows.

    Yields:
        As many rows as the packages take, the last one repeated where there are fewer.
    """
    fixed = int(component.inputs[0].shape[0])
    for start in range(0, _rows(feed), fixed):
        rows = _rows_of(feed, start, fixed)
        yield {
            spec.name: _package_input(spec, rows[component.ports[spec.name]])
            for spec in component.inputs
        }


def _package_input(spec: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    """An input of the loop as the package takes it.

    Args:
        spec: The input of the package.
        array: What the loop has: a scalar timestep, `(rows, tokens, channels)` text embeddings,
            integer token ids; other inputs have the same shape in both.
    """
    if array.ndim == 0:
        array = np.full([int(size) for size in spec.shape], array)
    elif len(spec.shape) == 4 and array.ndim == 3:
        array = array.transpose(0, 2, 1)[:, :, None]
    return np.ascontiguousarray(array, dtype=spec.dtype)


def _rows(feed: Mapping[str, NDArray[Any]]) -> int:
    return next(len(array) for name, array in feed.items() if name not in SCALARS)


def _rows_of(feed: Mapping[str, NDArray[Any]], start: int, count: int) -> Arrays:
    rows = {}
    for name, array in feed.items():
        if name in SCALARS:
            rows[name] = array
            continue
        piece = array[start : start + count]
        missing = count - len(piece)
        rows[name] = np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)])
    return rows
