"""Convolutions, matrix products, attention and normalizations against torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

RNG = np.random.default_rng(3)
CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED = {
    1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d,
}  # fmt: skip
TESTED = {
    "conv", "conv_transpose", "linear", "matmul", "einsum", "scaled_dot_product_attention",
    "batch_norm", "instance_norm", "layer_norm", "l2_norm", "local_response_norm",
}  # fmt: skip


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def close(result, reference):
    assert result.shape == tuple(reference.shape)
    np.testing.assert_allclose(result, reference, rtol=2e-5, atol=2e-5)


@st.composite
def convolutions(draw):
    rank = draw(st.integers(1, 3))
    several = lambda most: draw(st.lists(st.integers(1, most), min_size=rank, max_size=rank))  # noqa: E731
    kernel, strides, dilations = several(3), several(2), several(2)
    sizes = [draw(st.integers(5, 7)) for _ in range(rank)]
    groups = draw(st.sampled_from([1, 2]))
    pads = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
    return kernel, strides, dilations, sizes, groups, pads, draw(st.booleans())


@given(chosen=convolutions())
@settings(max_examples=25, deadline=None)
def test_conv(mil, chosen):
    kernel, strides, dilations, sizes, groups, pads, biased = chosen
    x, weight = normal(2, 4, *sizes), normal(6, 4 // groups, *kernel)
    options = {"bias": normal(6)} if biased else {}
    (result,) = mil.apply(
        "conv", {"x": x}, weight=weight, strides=strides, dilations=dilations, groups=groups,
        pad_type="custom", pad=pads, **options,
    )  # fmt: skip
    turned = [
        size for pair in reversed(list(zip(pads[::2], pads[1::2], strict=True))) for size in pair
    ]
    padded = functional.pad(torch.from_numpy(x), turned)
    bias = torch.from_numpy(options["bias"]) if biased else None
    reference = CONV[len(kernel)](
        padded, torch.from_numpy(weight), bias, strides, 0, dilations, groups
    )
    close(result, reference)


@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (1, 2)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_is_torchs(mil, kernel, dilation):
    x, weight = normal(1, 3, 7, 8), normal(5, 3, *kernel)
    (result,) = mil.apply(
        "conv", {"x": x}, weight=weight, pad_type="same", dilations=[dilation] * 2
    )
    close(
        result,
        functional.conv2d(
            torch.from_numpy(x), torch.from_numpy(weight), padding="same", dilation=dilation
        ),
    )


def test_same_lower_puts_the_odd_zero_before(mil):
    x, weight = normal(1, 3, 7, 8), normal(5, 3, 3, 3)
    (result,) = mil.apply("conv", {"x": x}, weight=weight, pad_type="same_lower", strides=[2, 2])
    padded = functional.pad(torch.from_numpy(x), (1, 0, 1, 1))
    close(result, functional.conv2d(padded, torch.from_numpy(weight), stride=2))


def test_a_convolution_of_fixed_weights_in_the_feed(mil):
    x, weight = normal(2, 4, 6), normal(4, 1, 3)
    (result,) = mil.apply("conv", {"x": x, "weight": weight}, groups=4)
    close(result, functional.conv1d(torch.from_numpy(x), torch.from_numpy(weight), groups=4))


@given(chosen=convolutions())
@settings(max_examples=20, deadline=None)
def test_conv_transpose(mil, chosen):
    kernel, strides, dilations, sizes, groups, pads, biased = chosen
    x, weight = normal(2, 4, *sizes), normal(4, 6 // groups, *kernel)
    options = {"bias": normal(6)} if biased else {}
    full = [
        (size - 1) * step + (extent - 1) * spread + 1
        for size, step, extent, spread in zip(sizes, strides, kernel, dilations, strict=True)
    ]
    assume(all(pads[2 * axis] + pads[2 * axis + 1] < size for axis, size in enumerate(full)))
    (result,) = mil.apply(
        "conv_transpose", {"x": x}, weight=weight, strides=strides, dilations=dilations,
        groups=groups, pad_type="custom", pad=pads, **options,
    )  # fmt: skip
    bias = torch.from_numpy(options["bias"]) if biased else None
    reference = TRANSPOSED[len(kernel)](
        torch.from_numpy(x), torch.from_numpy(weight), bias, strides, 0, 0, groups, dilations
    )
    for axis, size in enumerate(full):
        kept = size - pads[2 * axis] - pads[2 * axis + 1]
        reference = reference.narrow(axis + 2, pads[2 * axis], kept)
    close(result, reference)


def test_the_wanted_size_of_a_transposed_convolution(mil):
    x, weight, bias = normal(1, 3, 5, 6), normal(3, 4, 3, 3), normal(4)
    (result,) = mil.apply(
        "conv_transpose", {"x": x}, weight=weight, bias=bias, strides=[2, 2], pad_type="custom",
        pad=[1, 1, 1, 1], output_shape=[1, 4, 10, 12],
    )  # fmt: skip
    reference = functional.conv_transpose2d(
        torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias), 2, 1, 1
    )
    close(result, reference)


def test_a_transposed_convolution_of_same_size(mil):
    x, weight = normal(1, 3, 5, 6), normal(3, 4, 4, 4)
    (result,) = mil.apply(
        "conv_transpose", {"x": x}, weight=weight, strides=[2, 2], pad_type="same"
    )
    reference = functional.conv_transpose2d(
        torch.from_numpy(x), torch.from_numpy(weight), None, 2, 1
    )
    close(result, reference)


def test_linear(mil):
    x, weight, bias = normal(2, 5, 4), normal(3, 4), normal(3)
    (result,) = mil.apply("linear", {"x": x}, weight=weight, bias=bias)
    close(result, x @ weight.T + bias)


@pytest.mark.parametrize(
    ("x", "y"),
    [((2, 1, 3, 4), (5, 4, 2)), ((3, 4), (4, 2)), ((4,), (6, 4, 2)), ((2, 3, 4, 5), (2, 3, 5, 4))],
)
@pytest.mark.parametrize("turned", [False, True])
def test_matmul(mil, x, y, turned):
    x, y = normal(*x), normal(*y)
    if not turned or x.ndim == 1:
        (result,) = mil.apply("matmul", {"x": x, "y": y})
    else:
        given = {"x": np.swapaxes(x, -1, -2).copy(), "y": np.swapaxes(y, -1, -2).copy()}
        (result,) = mil.apply("matmul", given, transpose_x=True, transpose_y=True)
    close(result, np.matmul(x, y))


def test_einsum(mil):
    """Equations and broadcasts that MIL has: heads in BC1S layout."""
    q, k = normal(2, 5, 1, 6), normal(1, 6, 1, 7)
    (result,) = mil.apply("einsum", {"values": [q, k]}, equation="nchw,nwhu->nchu")
    close(result, np.einsum("nchw,nwhu->nchu", q, np.repeat(k, 2, 0)))


@pytest.mark.parametrize("mask", [None, "float", "bool"])
def test_attention(mil, mask):
    q, k, v = normal(2, 3, 5, 8), normal(2, 3, 7, 8), normal(2, 3, 7, 4)
    given = {"query": q, "key": k, "value": v}
    extra = 0.0
    if mask == "float":
        given["attn_mask"] = normal(2, 1, 5, 7)
        extra = given["attn_mask"]
    elif mask == "bool":
        given["attn_mask"] = RNG.uniform(size=(5, 7)) > 0.3
        given["attn_mask"][:, 0] = True
        extra = np.where(given["attn_mask"], 0, -np.inf)
    (result,) = mil.apply("scaled_dot_product_attention", given, "iOS18")
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(8) + extra
    close(result, torch.softmax(torch.from_numpy(scores).double(), -1).numpy() @ v)


@pytest.mark.parametrize("affine", [False, True])
def test_norms_of_channels(mil, affine):
    x, mean, variance = normal(2, 3, 4, 5), normal(3), np.abs(normal(3)) + 0.1
    options = {"gamma": normal(3), "beta": normal(3)} if affine else {}
    scale = [torch.from_numpy(each) for each in options.values()] or [None, None]
    (result,) = mil.apply(
        "batch_norm", {"x": x}, mean=mean, variance=variance, epsilon=np.float32(0.1), **options
    )
    close(
        result,
        functional.batch_norm(
            torch.from_numpy(x), torch.from_numpy(mean), torch.from_numpy(variance), *scale, eps=0.1
        ),
    )
    (result,) = mil.apply("instance_norm", {"x": x}, epsilon=np.float32(0.1), **options)
    close(result, functional.instance_norm(torch.from_numpy(x), None, None, *scale, eps=0.1))


@pytest.mark.parametrize("axes", [[-1], [1], [2, 3], [1, 3], [0, 1, 2, 3]])
@pytest.mark.parametrize("affine", [False, True])
def test_layer_norm(mil, axes, affine):
    x = normal(2, 3, 4, 5)
    over = [axis % 4 for axis in axes]
    shape = [x.shape[axis] for axis in over]
    options = {"gamma": normal(*shape), "beta": normal(*shape)} if affine else {}
    (result,) = mil.apply("layer_norm", {"x": x}, axes=axes, epsilon=np.float32(0.1), **options)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(tuple(over), keepdims=True)
    reference = centred / np.sqrt((centred**2).mean(tuple(over), keepdims=True) + 0.1)
    if affine:
        laid = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
        reference = reference * options["gamma"].reshape(laid) + options["beta"].reshape(laid)
    close(result, reference)


def test_l2_norm(mil):
    x = normal(2, 3, 4, 5)
    (result,) = mil.apply("l2_norm", {"x": x}, epsilon=np.float32(0.5))
    close(result, x / np.sqrt((x**2).sum((1, 2, 3), keepdims=True) + 0.5))


def test_local_response_norm(mil):
    x = normal(2, 6, 4, 5)
    values = {"alpha": np.float32(0.3), "beta": np.float32(0.6), "k": np.float32(1.5)}
    (result,) = mil.apply("local_response_norm", {"x": x}, size=3, **values)
    squares = np.pad(x**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    near = sum(squares[:, shift : shift + 6] for shift in range(3))
    close(result, x / (1.5 + 0.3 / 3 * near) ** 0.6)
