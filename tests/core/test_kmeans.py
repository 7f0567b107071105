import numpy as np
import pytest
from coremltools._deps import kmeans1d
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core.kmeans import palette_of

RNG = np.random.default_rng(0)
TENSORS = {
    "normal": RNG.normal(0, 0.02, (40, 50)),
    "heavy tails": RNG.laplace(0, 0.05, 3000),
    "uniform": RNG.uniform(-1, 1, (3, 500, 2)),
    "outliers": np.append(RNG.normal(0, 0.01, 2000), [3.0, -4.0, 60000.0]),
    "two heaps": np.append(RNG.normal(-1, 0.01, 1000), RNG.normal(1, 0.1, 1000)),
}


def error(weights, palette, indices):
    return float(((palette[indices].astype(np.float64) - weights.astype(np.float64)) ** 2).mean())


@pytest.mark.parametrize("colours", [2, 4, 16, 64])
@pytest.mark.parametrize("name", TENSORS)
def test_as_close_as_the_best_palette(name, colours):
    weights = TENSORS[name].astype(np.float16)
    palette, indices = palette_of(weights, colours)
    assert palette.dtype == np.float16
    assert palette.shape == (colours,)
    assert indices.shape == weights.shape
    # coremltools' own: the exact optimum, before its centroids are rounded.
    best = kmeans1d.cluster(weights.astype(np.float64).reshape(-1), colours)
    centroids = np.array(best.centroids).astype(np.float16)
    least = error(weights.reshape(-1), centroids, np.array(best.clusters))
    assert error(weights, palette, indices) <= 1.02 * least


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-60000, 60000, width=16), min_size=1, max_size=60),
    st.sampled_from([2, 4, 16, 256]),
)
def test_every_weight_gets_the_nearest_number(values, colours):
    weights = np.array(values, np.float16)
    palette, indices = palette_of(weights, colours)
    distances = np.abs(palette[None].astype(np.float64) - weights[:, None].astype(np.float64))
    assert (np.abs(palette[indices].astype(np.float64) - weights) == distances.min(axis=1)).all()
    if len(np.unique(weights)) <= colours:
        assert (palette[indices] == weights).all()


def test_the_same_palette_each_time():
    weights = TENSORS["normal"].astype(np.float16)
    first, second = palette_of(weights, 16), palette_of(weights.copy(), 16)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
