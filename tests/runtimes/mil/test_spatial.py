"""Resampling, pooling and the moves between channels, batch and space."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kdexport.core.errors import RunError
from torch.nn import functional

RNG = np.random.default_rng(4)
TESTED = {
    "batch_to_space", "depth_to_space", "pixel_shuffle", "pixel_unshuffle", "resize",
    "resize_bilinear", "resize_nearest_neighbor", "space_to_batch", "space_to_depth",
    "upsample_bilinear", "upsample_nearest_neighbor", "avg_pool", "l2_pool", "max_pool",
}  # fmt: skip
MAXIMA = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
AVERAGES = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def close(result, reference):
    assert result.shape == tuple(reference.shape)
    np.testing.assert_allclose(result, reference, rtol=2e-5, atol=2e-5)


@given(
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    factors=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
@settings(max_examples=20, deadline=None)
def test_upsampling_by_whole_factors(mil, sizes, factors):
    x = normal(2, 3, *sizes)
    high, wide = factors
    (result,) = mil.apply(
        "upsample_nearest_neighbor", {"x": x}, scale_factor_height=high, scale_factor_width=wide
    )
    close(result, x.repeat(high, 2).repeat(wide, 3))
    for aligned in (True, False):
        (result,) = mil.apply(
            "upsample_bilinear", {"x": x}, scale_factor_height=high, scale_factor_width=wide,
            align_corners=aligned,
        )  # fmt: skip
        size = [sizes[0] * high, sizes[1] * wide]
        close(
            result,
            functional.interpolate(
                torch.from_numpy(x), size, mode="bilinear", align_corners=aligned
            ),
        )


def test_upsampling_by_a_fraction(mil):
    x = normal(1, 2, 5, 7)
    (result,) = mil.apply(
        "upsample_nearest_neighbor",
        {"x": x},
        scale_factor_height=np.float32(1.5),
        scale_factor_width=np.float32(2.5),
    )
    close(result, functional.interpolate(torch.from_numpy(x), (7, 17), mode="nearest"))


def test_neither_aligned_nor_half(mil):
    x = normal(1, 1, 1, 4)
    (result,) = mil.apply(
        "upsample_bilinear", {"x": x}, scale_factor_height=1, scale_factor_width=2,
        align_corners=False, half_pixel_centers=False,
    )  # fmt: skip
    close(result[0, 0, 0], np.interp(np.arange(8) / 2, np.arange(4), x[0, 0, 0]))
    with pytest.raises(RunError, match="not both"):
        mil.apply("upsample_bilinear", {"x": x}, align_corners=True, half_pixel_centers=True)


# The grids that MIL's documentation of `resize_bilinear` gives for an input of two pixels.
GRIDS = {
    ("UNALIGN_CORNERS", 5): [0.0, 0.1, 0.5, 0.9, 1.0],
    ("STRICT_ALIGN_CORNERS", 5): [0.0, 0.25, 0.5, 0.75, 1.0],
    ("DEFAULT", 5): [0.0, 0.4, 0.8, 1.0, 1.0],
    ("OFFSET_CORNERS", 5): [0.1, 0.3, 0.5, 0.7, 0.9],
    ("UNALIGN_CORNERS", 6): [0.0, 0.0, 0.33, 0.67, 1.0, 1.0],
    ("ALIGN_CORNERS", 6): [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
    ("DEFAULT", 6): [0.0, 0.33, 0.67, 1.0, 1.0, 1.0],
    ("OFFSET_CORNERS", 6): [0.08, 0.25, 0.42, 0.58, 0.75, 0.92],
    ("ALIGN_CORNERS", 1): [0.5],
    ("STRICT_ALIGN_CORNERS", 1): [0.0],
}


@pytest.mark.parametrize(("mode", "wanted"), sorted(GRIDS))
def test_documented_grids(mil, mode, wanted):
    x = np.array([[[0, 1]]], np.float32)
    (result,) = mil.apply(
        "resize_bilinear",
        {"x": x},
        target_size_height=1,
        target_size_width=wanted,
        sampling_mode=mode,
    )
    np.testing.assert_allclose(result[0, 0], GRIDS[mode, wanted], atol=0.0051)
    (again,) = mil.apply(
        "resize", {"x": x}, shape=[0, wanted], resized_dims=np.uint32(2), sampling_mode=mode
    )
    np.testing.assert_array_equal(again, result)


@given(
    x=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
@settings(max_examples=20, deadline=None)
def test_resizing_to_the_nearest(mil, x, size):
    x = normal(2, 1, *x)
    reference = functional.interpolate(torch.from_numpy(x), size, mode="nearest-exact")
    plain = functional.interpolate(torch.from_numpy(x).double(), size, mode="nearest")
    assert reference.shape == plain.shape
    (result,) = mil.apply(
        "resize_nearest_neighbor", {"x": x}, target_size_height=size[0], target_size_width=size[1]
    )
    rows, columns = (
        np.arange(want) * have // want for want, have in zip(size, x.shape[2:], strict=True)
    )
    close(result, x[:, :, rows][:, :, :, columns])
    (again,) = mil.apply(
        "resize",
        {"x": x},
        shape=list(size),
        resized_dims=np.uint32(2),
        interpolation_mode="NEAREST_NEIGHBOR",
    )
    np.testing.assert_array_equal(again, result)


def test_an_undocumented_mode_is_refused(mil):
    with pytest.raises(RunError, match="OFFSET_CORNERS' is not documented"):
        mil.apply(
            "resize", {"x": normal(1, 1, 2, 2)}, shape=[3, 3], resized_dims=np.uint32(2),
            interpolation_mode="NEAREST_NEIGHBOR", sampling_mode="OFFSET_CORNERS",
        )  # fmt: skip


def test_moves_between_channels_and_space(mil):
    x = normal(2, 8, 3, 5)
    (result,) = mil.apply("pixel_shuffle", {"x": x}, upscale_factor=2)
    close(result, functional.pixel_shuffle(torch.from_numpy(x), 2))
    (back,) = mil.apply("pixel_unshuffle", {"x": result}, downscale_factor=np.uint32(2))
    np.testing.assert_array_equal(back, x)
    (result,) = mil.apply("depth_to_space", {"x": x}, block_size=2)
    for row in range(2):
        for column in range(2):  # TensorFlow: the block's place varies slower than the channel
            part = x[:, (row * 2 + column) * 2 : (row * 2 + column + 1) * 2]
            np.testing.assert_array_equal(result[:, :, row::2, column::2], part)
    (back,) = mil.apply("space_to_depth", {"x": result}, block_size=2)
    np.testing.assert_array_equal(back, x)


def test_moves_between_batch_and_space(mil):
    x = normal(2, 3, 4, 5)
    (result,) = mil.apply(
        "space_to_batch",
        {"x": x},
        block_shape=[2, 3],
        paddings=np.array([[1, 1], [0, 1]], np.int32),
    )
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 1)))
    for row in range(2):
        for column in range(3):
            place = (row * 3 + column) * 2
            np.testing.assert_array_equal(
                result[place : place + 2], padded[:, :, row::2, column::3]
            )
    (back,) = mil.apply(
        "batch_to_space",
        {"x": result},
        block_shape=[2, 3],
        crops=np.array([[1, 1], [0, 1]], np.int32),
    )
    np.testing.assert_array_equal(back, x)


@st.composite
def pools(draw):
    rank = draw(st.integers(1, 3))
    kernel = [draw(st.integers(2, 3)) for _ in range(rank)]
    strides = [draw(st.integers(1, 3)) for _ in range(rank)]
    pads = [draw(st.integers(0, 1)) for _ in range(rank)]
    ceil = draw(st.booleans()) and rank < 3
    return (
        kernel,
        strides,
        pads,
        [draw(st.integers(4, 7)) for _ in range(rank)],
        ceil,
        draw(st.booleans()),
    )


@given(chosen=pools())
@settings(max_examples=30, deadline=None)
def test_pools_are_torchs(mil, chosen):
    kernel, strides, pads, sizes, ceil, exclude = chosen
    x = normal(2, 3, *sizes)
    options = {
        "kernel_sizes": kernel, "strides": strides, "pad_type": "custom", "ceil_mode": ceil,
        "pad": [pad for pad in pads for _ in range(2)],
    }  # fmt: skip
    reference = MAXIMA[len(sizes)](torch.from_numpy(x), kernel, strides, pads, ceil_mode=ceil)
    # MIL drops a last window that starts in the padding only where there is padding.
    windows = [
        -(-(size + 2 * pad - extent) // step) * step < size + pad
        for size, pad, extent, step in zip(sizes, pads, kernel, strides, strict=True)
    ]
    assume(not ceil or all(pad or kept for pad, kept in zip(pads, windows, strict=True)))
    (result,) = mil.apply("max_pool", {"x": x}, **options)
    close(result, reference)
    reference = AVERAGES[len(sizes)](
        torch.from_numpy(x), kernel, strides, pads, ceil_mode=ceil, count_include_pad=not exclude
    )
    (result,) = mil.apply("avg_pool", {"x": x}, **options, exclude_padding_from_average=exclude)
    close(result, reference)
    if len(sizes) < 3 and not ceil:
        (result,) = mil.apply("l2_pool", {"x": x}, **options)
        sums = AVERAGES[len(sizes)](torch.from_numpy(x) ** 2, kernel, strides, pads)
        close(result, (sums * np.prod(kernel)) ** 0.5)


def test_pools_with_other_padding(mil):
    x = normal(1, 2, 5, 6)
    options = {"kernel_sizes": [2, 3], "strides": [1, 1]}
    (result,) = mil.apply("max_pool", {"x": x}, **options, pad_type="valid")
    close(result, functional.max_pool2d(torch.from_numpy(x), (2, 3), 1))
    (result,) = mil.apply("avg_pool", {"x": x}, **options, pad_type="same")
    padded = functional.pad(torch.from_numpy(x), (1, 1, 0, 1))
    close(result, functional.avg_pool2d(padded, (2, 3), 1))
    (result,) = mil.apply("max_pool", {"x": x}, **options, pad_type="custom", pad=[0, 1, 2, 0])
    padded = functional.pad(torch.from_numpy(x), (2, 0, 0, 1), value=-np.inf)
    close(result, functional.max_pool2d(padded, (2, 3), 1))
