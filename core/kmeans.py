"""One-dimensional k-means on float16 numbers, fast because there are only 65,536 of them.

The values are counted first, so an iteration costs the same for a thousand weights and for ten
million. There is no chance in it: the same weights give the same palette.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Lloyd's iterations end here, or where one gains less than this share of the error.
_MOST_ITERATIONS = 500
_LEAST_GAIN = 1e-6
# Runs of neighbouring values that the first partition is made of, at least, and per colour.
_LEAST_RUNS, _RUNS_PER_COLOUR = 256, 2
# Rounds in which the share of outliers among them is cut.
_CAPPINGS = 20

Float16 = NDArray[np.float16]
Floats = NDArray[np.float64]
Indices = NDArray[np.uint8]


def palette_of(weights: Float16, colours: int) -> tuple[Float16, Indices]:
    """The palette that a tensor is closest to, and where each weight is in it.

    Args:
        weights: Finite numbers of any shape.
        colours: Size of the palette, at most 256.

    Returns:
        The palette, ascending, with its last number repeated where the tensor has fewer; and the
        index of each weight, in the shape of `weights`.
    """
    codes = np.ascontiguousarray(weights).view(np.uint16)
    counts = np.bincount(codes.reshape(-1), minlength=1 << 16)
    present = np.flatnonzero(counts).astype(np.uint16)
    values = present.view(np.float16).astype(np.float64)
    order = np.argsort(values, kind="stable")
    present, values = present[order], values[order]
    centroids = _cluster(values, counts[present].astype(np.float64), colours)
    palette = np.unique(centroids.astype(np.float16))
    # The nearest of the rounded centroids, for every number that occurs.
    table = np.zeros(1 << 16, np.uint8)
    table[present] = _nearest(values, palette.astype(np.float64))
    padding = np.full(colours - len(palette), palette[-1], np.float16)
    return np.concatenate([palette, padding]), table[codes]


def _cluster(values: Floats, weights: Floats, colours: int) -> Floats:
    """Centroids of ascending values: the best partition of runs, then Lloyd's algorithm."""
    if len(values) <= colours:
        return values
    mass, moment = _sums(weights), _sums(weights * values)
    power = float((weights * values * values).sum())
    edges, error = _partition(values, weights, colours), np.inf
    for _ in range(_MOST_ITERATIONS):
        masses = np.diff(mass[edges])
        centroids = np.diff(moment[edges])[masses > 0] / masses[masses > 0]
        before, error = error, power - float((masses[masses > 0] * centroids**2).sum())
        if before - error <= _LEAST_GAIN * abs(error):
            break
        bounds = np.searchsorted(values, (centroids[1:] + centroids[:-1]) / 2)
        edges = np.concatenate([[0], bounds, [len(values)]])
    return centroids


def _partition(values: Floats, weights: Floats, colours: int) -> NDArray[np.int64]:
    """Where to cut ascending values into clusters: the least squared error for whole runs.

    Dynamic programming over a few hundred runs of values instead of all of them. They are as dense
    as the cube root of the density of the values, which is where the clusters of many weights end
    up (Panter and Dite, 1951).
    """
    runs = _runs(values, weights, max(_LEAST_RUNS, _RUNS_PER_COLOUR * colours))
    mass, moment = _sums(weights)[runs], _sums(weights * values)[runs]
    between = mass[None] - mass[:, None]
    # What a cluster from one edge to a later one saves, against all values at 0.
    gain = np.full(between.shape, -np.inf)
    np.divide((moment[None] - moment[:, None]) ** 2, between, out=gain, where=between > 0)
    best, choices = gain[0], []
    for _ in range(colours - 1):
        candidates = best[:, None] + gain
        choices.append(candidates.argmax(axis=0))
        best = candidates[choices[-1], np.arange(len(runs))]
    cuts = [len(runs) - 1]
    for choice in reversed(choices):
        cuts.append(int(choice[cuts[-1]]))
    return runs[[0, *reversed(cuts)]]


def _runs(values: Floats, weights: Floats, count: int) -> NDArray[np.int64]:
    """Edges of about `count` runs of ascending values, or of single ones where they are few."""
    if len(values) <= count:
        return np.arange(len(values) + 1)
    gaps = np.gradient(values)
    lengths = np.cbrt(weights * gaps * gaps)
    # An outlier takes one run, not most of them.
    for _ in range(_CAPPINGS):
        lengths = np.minimum(lengths, lengths.sum() / count)
    shares = _sums(lengths)
    wanted = np.linspace(0.0, shares[-1], count + 1)
    edges = np.unique(np.searchsorted(shares, wanted))
    return np.unique(np.clip(np.concatenate([[0], edges, [len(values)]]), 0, len(values)))


def _nearest(values: Floats, palette: Floats) -> NDArray[np.int64]:
    return np.searchsorted((palette[1:] + palette[:-1]) / 2, values)


def _sums(values: Floats) -> Floats:
    """Running sums, beginning with 0."""
    return np.concatenate([[0.0], np.cumsum(values)])
