"""How one made-up tensor is drawn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Wiring:
    """Entries that are set after drawing: the region `clear` to zero, then each of `entries`."""

    clear: tuple[int | slice, ...]
    entries: tuple[tuple[tuple[int, ...], float], ...]


@dataclass(frozen=True)
class Draw:
    """How a tensor is drawn: `mean` + `deviation` * normal, in float32 of `shape`, then wired.

    Where `centred` is set, each output's weights sum to zero first.
    """

    shape: tuple[int, ...]
    deviation: float
    mean: float = 0.0
    centred: bool = False
    wiring: Wiring | None = None

    def array(self, *key: object) -> NDArray[np.float32]:
        """The tensor; `key` (seed, component, name) decides it."""
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        generator = np.random.default_rng(np.frombuffer(digest, dtype="<u4"))
        values = generator.standard_normal(self.shape, dtype=np.float32)
        if self.centred:
            values -= values.mean(axis=tuple(range(1, values.ndim)), keepdims=True)
        values *= np.float32(self.deviation)
        values += np.float32(self.mean)
        if self.wiring is not None:
            values[self.wiring.clear] = 0
            for index, value in self.wiring.entries:
                values[index] = value
        return values
