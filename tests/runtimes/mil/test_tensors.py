"""Shapes, slices, indices, reductions, order and creation against NumPy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kdexport.core.errors import RunError

CUBE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
MIXED = np.random.default_rng(5).normal(size=(2, 3, 4)).astype(np.float32)
ROWS = np.array([[2, 0], [1, 1]], np.int32)
ALONG = np.array([[[1, 2, 0, 0]], [[0, 1, 2, 1]]], np.int32)

# Operation, tensors, options, opsets: coremltools' own NumPy code is the reference.
INFERRED = [
    ("argsort", {"x": MIXED}, {"axis": 1, "ascending": True}),
    ("argsort", {"x": MIXED}, {"axis": -1}),
    ("band_part", {"x": MIXED}, {"lower": 0, "upper": -1}),
    ("band_part", {"x": MIXED}, {"lower": 1, "upper": 0}),
    ("concat", {"values": [CUBE, -CUBE]}, {"axis": 1}),
    ("cumsum", {"x": MIXED}, {"axis": 1}),
    ("cumsum", {"x": MIXED}, {"axis": 2, "reverse": True}),
    ("expand_dims", {"x": CUBE}, {"axes": [0, -1, 2]}),
    ("fill_like", {"ref_tensor": CUBE}, {"value": np.float32(2.5)}),
    ("flatten2d", {"x": CUBE}, {"axis": 2}),
    ("flatten2d", {"x": CUBE}, {"axis": -2}),
    ("gather", {"x": CUBE, "indices": ROWS}, {"axis": 1}),
    ("gather", {"x": CUBE, "indices": ROWS}, {"axis": 2, "batch_dims": 1}),
    ("gather_along_axis", {"x": CUBE, "indices": ALONG}, {"axis": 1}),
    ("identity", {"x": CUBE}, {}),
    ("non_zero", {"x": np.array([[0, 2.0], [3, 0]], np.float32)}, {}),
    ("pad", {"x": MIXED}, {"pad": [1, 2, 0, 3], "mode": "constant", "constant_val": np.float32(7)}),
    ("pad", {"x": MIXED}, {"pad": [2, 1, 3, 2], "mode": "reflect"}),
    ("pad", {"x": MIXED}, {"pad": [1, 0, 3, 5, 0, 2], "mode": "replicate"}),
    ("range_1d", {"start": np.int32(2), "end": np.int32(11), "step": np.int32(3)}, {}),
    ("reduce_argmax", {"x": MIXED}, {"axis": 1}),
    ("reduce_argmin", {"x": MIXED}, {"axis": -1, "keep_dims": True}),
    ("reshape", {"x": CUBE}, {"shape": [0, -1, 2]}),
    ("reverse", {"x": CUBE}, {"axes": [0, 2]}),
    ("reverse", {"x": CUBE}, {}),
    ("shape", {"x": CUBE}, {}),
    ("slice_by_size", {"x": CUBE}, {"begin": [0, 1, -3], "size": [1, -1, 2]}),
    ("split", {"x": CUBE}, {"axis": 2, "num_splits": 2}),
    ("split", {"x": CUBE}, {"axis": -1, "split_sizes": [1, 3]}),
    ("squeeze", {"x": CUBE[:1, :, :1]}, {"axes": [0, -1]}),
    ("squeeze", {"x": CUBE[:1, :, :1]}, {}),
    ("stack", {"values": [CUBE, -CUBE, CUBE]}, {"axis": -2}),
    ("tile", {"x": CUBE}, {"reps": [2, 1, 3]}),
    ("topk", {"x": MIXED}, {"k": 2, "axis": 1}),
    ("topk", {"x": MIXED}, {"k": 3, "axis": -1, "ascending": True}),
    ("transpose", {"x": CUBE}, {"perm": [2, 0, -2]}),
]  # fmt: skip
AXES = [
    "l1_norm",
    "l2_norm",
    "log_sum",
    "log_sum_exp",
    "max",
    "mean",
    "min",
    "prod",
    "sum",
    "sum_square",
]
OTHERS = {
    "fill", "gather_nd", "one_hot", "reshape_like", "reverse_sequence", "scatter",
    "scatter_along_axis", "scatter_nd", "slice_by_index", "slice_update", "sliding_windows", "crop",
}  # fmt: skip
TESTED = {kind for kind, _, _ in INFERRED} | {f"reduce_{kind}" for kind in AXES} | OTHERS


@pytest.mark.parametrize(
    ("kind", "tensors", "options"),
    INFERRED,
    ids=[f"{place}-{each[0]}" for place, each in enumerate(INFERRED)],
)
def test_as_coremltools_infers(mil, kind, tensors, options):
    results = mil.apply_constants(kind, tensors, **options)
    references = mil.inferred(kind, tensors, **options)
    for result, reference in zip(results, references, strict=True):
        assert result.shape == reference.shape
        np.testing.assert_allclose(result, reference, rtol=1e-6)


@pytest.mark.parametrize("kind", AXES)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_reductions(mil, kind, data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))
    axes = data.draw(st.none() | st.sets(st.integers(0, len(shape) - 1), min_size=1).map(sorted))
    keep = data.draw(st.booleans())
    x = np.random.default_rng(1).uniform(0.5, 2, shape).astype(np.float32)
    options = {"keep_dims": keep} | ({} if axes is None else {"axes": axes})
    (result,) = mil.apply(f"reduce_{kind}", {"x": x}, **options)
    (reference,) = mil.inferred(f"reduce_{kind}", {"x": x}, **options)
    assert result.shape == reference.shape
    np.testing.assert_allclose(result, reference, rtol=1e-5)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_slices_are_numpys(mil, data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=5))
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    rank = len(shape)
    begin = [data.draw(st.integers(-size, size - 1)) for size in shape]
    end = [data.draw(st.integers(-size, size)) for size in shape]
    stride = [data.draw(st.sampled_from([1, 2, -1, -2])) for _ in shape]
    flags = {
        name: [data.draw(st.booleans()) for _ in shape]
        for name in ("begin_mask", "end_mask", "squeeze_mask")
    }
    pieces = []
    for axis in range(rank):
        start = None if flags["begin_mask"][axis] else begin[axis]
        if flags["squeeze_mask"][axis]:
            assume(start is not None)
            pieces.append(start)
        else:
            pieces.append(
                slice(start, None if flags["end_mask"][axis] else end[axis], stride[axis])
            )
    reference = x[tuple(pieces)]
    assume(reference.size)
    bounds = {
        "begin": np.array(begin, np.int32), "end": np.array(end, np.int32),
    }  # fmt: skip
    # Bounds that are inputs, so that coremltools does not judge them.
    (result,) = mil.apply("slice_by_index", {"x": x, **bounds}, stride=stride, **flags)
    np.testing.assert_array_equal(result, reference)
    new = -np.ones_like(reference)
    if reference.ndim:
        changed = x.copy()
        changed[tuple(pieces)] = new
        (result,) = mil.apply(
            "slice_update", {"x": x, "update": new, **bounds}, "iOS18", stride=stride, **flags
        )
        np.testing.assert_array_equal(result, changed)


@given(shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), data=st.data())
@settings(max_examples=15, deadline=None)
def test_concat_and_split_are_inverse(mil, shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = [np.full(shape, value, np.float32) for value in range(3)]
    (whole,) = mil.apply("concat", {"values": parts}, axis=axis)
    np.testing.assert_array_equal(whole, np.concatenate(parts, axis))
    again = mil.apply("split", {"x": whole}, axis=axis, num_splits=3)
    np.testing.assert_array_equal(np.stack(again), np.stack(parts))


def test_interleaved_concat(mil):
    (result,) = mil.apply("concat", {"values": [CUBE, -CUBE]}, axis=1, interleave=True)
    np.testing.assert_array_equal(result[:, ::2], CUBE)
    np.testing.assert_array_equal(result[:, 1::2], -CUBE)


def test_exclusive_cumsum(mil):
    for reverse in (False, True):
        (result,) = mil.apply("cumsum", {"x": CUBE}, axis=2, exclusive=True, reverse=reverse)
        x = np.flip(CUBE, 2) if reverse else CUBE
        reference = np.cumsum(x, 2) - x
        np.testing.assert_allclose(result, np.flip(reference, 2) if reverse else reference)


@pytest.mark.parametrize(
    ("opset", "shape", "expected"),
    [
        ("iOS16", [0, 0, 2, 2], None),
        ("iOS16", [0, -1, 0], (2, 3, 4)),
        ("iOS17", [1, 0, -1, 0], (1, 2, 3, 4)),
        ("iOS17", [0, 1, 0, 0, -1], (1, 1, 2, 3, 4)),
        ("iOS17", [-1, 0], (6, 4)),
    ],
)
def test_zeros_in_a_shape(mil, opset, shape, expected):
    """The shape is an input, so that the evaluator and not coremltools reads it."""
    given = {"x": CUBE, "shape": np.array(shape, np.int32)}
    if expected is None:
        with pytest.raises(RunError, match=r"The operation 'reshape' \('layer'\) failed"):
            mil.apply("reshape", given, opset)
    else:
        (result,) = mil.apply("reshape", given, opset)
        assert result.shape == expected


def test_reshape_like(mil):
    flags = [np.bool_(False), np.bool_(True)]
    (result,) = mil.apply(
        "reshape_like",
        {
            "x": np.arange(180, dtype=np.float32),
            "ref_tensors": [CUBE, np.zeros((9, 5, 6), np.float32)],
        },
        begins=[np.int32(0), np.int32(1)], ends=[np.int32(2), np.int32(0)], end_masks=flags,
    )  # fmt: skip
    assert result.shape == (2, 3, 5, 6)


def test_reverse_sequence(mil):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    lengths = np.array([1, 3, 4], np.int32)
    (result,) = mil.apply(
        "reverse_sequence", {"x": x, "lengths": lengths}, seq_axis=1, batch_axis=0
    )
    np.testing.assert_array_equal(result, [[0, 1, 2, 3], [6, 5, 4, 7], [11, 10, 9, 8]])


def test_sliding_windows(mil):
    (result,) = mil.apply("sliding_windows", {"x": CUBE}, axis=-1, size=3, stride=1)
    windows = np.lib.stride_tricks.sliding_window_view(CUBE, 3, axis=2)
    np.testing.assert_array_equal(result, windows)
    (result,) = mil.apply("sliding_windows", {"x": CUBE}, axis=1, size=2, stride=1)
    windows = np.lib.stride_tricks.sliding_window_view(CUBE, 2, axis=1)
    np.testing.assert_array_equal(result, np.moveaxis(windows, -1, 2))


def test_crop(mil):
    (result,) = mil.apply("crop", {"x": CUBE[None]}, crop_height=[1, 0], crop_width=[1, 2])
    np.testing.assert_array_equal(result, CUBE[None, :, 1:, 1:2])


def test_fill(mil):
    shape = np.array([2, 3], np.int32)
    (result,) = mil.apply("fill", {"shape": shape}, value=np.int32(4))
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, np.full((2, 3), 4))


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_one_hot(mil, axis):
    indices = np.array([[0, 2], [1, 3]], np.int32)
    (result,) = mil.apply(
        "one_hot", {"indices": indices}, one_hot_vector_size=4, axis=axis,
        on_value=np.float32(5), off_value=np.float32(-1),
    )  # fmt: skip
    hot = torch.nn.functional.one_hot(torch.from_numpy(indices).long(), 4).numpy()
    np.testing.assert_array_equal(result, np.moveaxis(np.where(hot, 5, -1), -1, axis))


def test_float_range(mil):
    numbers = {name: np.array(value, np.float32) for name, value in
               {"start": [0.5], "end": [2.0], "step": [0.25]}.items()}  # fmt: skip

    def body(mb, **given):
        return mb.range_1d(**{name: mb.squeeze(x=value) for name, value in given.items()})

    (result,) = mil.Evaluator(mil.make(body, numbers)).run(numbers).values()
    np.testing.assert_allclose(result, np.arange(0.5, 2.0, 0.25))


@pytest.mark.parametrize("batch", [0, 1])
def test_gather_nd(mil, batch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 5, 2)).astype(np.float32)
    indices = rng.integers(0, 3, (3, 2, 2)).astype(np.int32)
    (result,) = mil.apply("gather_nd", {"x": x, "indices": indices}, batch_dims=batch)
    if batch:
        reference = np.stack([x[row][tuple(indices[row].T)] for row in range(3)])
    else:
        reference = x[tuple(np.moveaxis(indices, -1, 0))]
    np.testing.assert_array_equal(result, reference)


MODES = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "max": np.maximum, "min": np.minimum, "update": lambda old, new: new,
}  # fmt: skip


@pytest.mark.parametrize("mode", sorted(MODES))
def test_scatters(mil, mode):
    rng = np.random.default_rng(2)
    data = rng.uniform(1, 2, (4, 3)).astype(np.float32)
    updates = rng.uniform(1, 2, (2, 3)).astype(np.float32)
    rows = np.array([3, 1], np.int32)
    reference = data.copy()
    for row, update in zip(rows, updates, strict=True):
        reference[row] = MODES[mode](reference[row], update)
    given = {"data": data, "indices": rows, "updates": updates}
    (result,) = mil.apply("scatter", given, axis=0, mode=mode)
    np.testing.assert_allclose(result, reference, rtol=1e-6)
    (result,) = mil.apply("scatter_nd", {**given, "indices": rows[:, None]}, mode=mode)
    np.testing.assert_allclose(result, reference, rtol=1e-6)
    along = np.repeat(rows[:, None], 3, 1)
    turned = {"data": data.T.copy(), "indices": along.T.copy(), "updates": updates.T.copy()}
    (result,) = mil.apply("scatter_along_axis", turned, axis=1, mode=mode)
    np.testing.assert_allclose(result.T, reference, rtol=1e-6)


def test_negative_indices_count_from_the_end_up_to_ios_16(mil):
    given = {"x": CUBE, "indices": np.array([-1, 0], np.int32)}
    (result,) = mil.apply("gather", given, "iOS16", axis=1)
    np.testing.assert_array_equal(result, CUBE[:, [-1, 0]])
    with pytest.raises(RunError, match=r"'gather' \('layer'\) failed: the indices from -1 to 0"):
        mil.apply("gather", given, "iOS17", axis=1)


def test_top_values_without_indices(mil):
    (result,) = mil.apply("topk", {"x": MIXED}, k=2, axis=2, return_indices=False)
    np.testing.assert_array_equal(result, -np.sort(-MIXED, 2)[..., :2])
