"""Arithmetic, comparison, logic and activations against torch and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional

LINE = np.linspace(-3.1, 3.3, 24, dtype=np.float32).reshape(2, 3, 4)
UNIT = np.linspace(-0.95, 0.95, 24, dtype=np.float32).reshape(2, 3, 4)
ABOVE = np.linspace(0.1, 7.0, 24, dtype=np.float32).reshape(2, 3, 4)
WHOLE = np.arange(-12, 12, dtype=np.int32).reshape(2, 3, 4)
VECTOR = np.array([0.3, -0.2, 1.5], np.float32)

UNARY = {
    "abs": (LINE, np.abs),
    "acos": (UNIT, np.arccos),
    "asin": (UNIT, np.arcsin),
    "atan": (LINE, np.arctan),
    "atanh": (UNIT, np.arctanh),
    "ceil": (LINE, np.ceil),
    "cos": (LINE, np.cos),
    "cosh": (LINE, np.cosh),
    "erf": (LINE, lambda x: torch.special.erf(torch.from_numpy(x)).numpy()),
    "exp": (LINE, np.exp),
    "exp2": (LINE, np.exp2),
    "floor": (LINE, np.floor),
    "logical_not": (LINE > 0, np.logical_not),
    "relu": (LINE, lambda x: np.maximum(x, 0)),
    "relu6": (LINE * 4, lambda x: np.clip(x, 0, 6)),
    "round": (np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.4], np.float32), np.round),
    "sigmoid": (LINE, lambda x: 1 / (1 + np.exp(-x))),
    "sign": (WHOLE, np.sign),
    "silu": (LINE, lambda x: x / (1 + np.exp(-x))),
    "sin": (LINE, np.sin),
    "sinh": (LINE, np.sinh),
    "softplus": (LINE, lambda x: np.log1p(np.exp(x))),
    "softsign": (LINE, lambda x: x / (1 + np.abs(x))),
    "sqrt": (ABOVE, np.sqrt),
    "square": (WHOLE, np.square),
    "tan": (UNIT, np.tan),
    "tanh": (LINE, np.tanh),
}

# With the parameters beside `x`, and the reference.
PARAMETRIC = {
    "clamped_relu": (
        LINE, {"alpha": -2.0, "beta": 1.5},
        lambda x: np.minimum(np.where(x >= 0, x, -2 * x), 1.5),
    ),
    "clip": (LINE, {"alpha": -1.0, "beta": 2.0}, lambda x: np.clip(x, -1, 2)),
    "elu": (LINE, {"alpha": 0.7}, lambda x: np.where(x > 0, x, 0.7 * (np.exp(x) - 1))),
    "inverse": (ABOVE, {"epsilon": 0.5}, lambda x: 1 / (x + 0.5)),
    "leaky_relu": (LINE, {"alpha": 0.2}, lambda x: np.where(x >= 0, x, 0.2 * x)),
    "linear_activation": (LINE, {"alpha": 2.0, "beta": -1.0}, lambda x: 2 * x - 1),
    "log": (ABOVE, {"epsilon": 0.25}, lambda x: np.log(x + 0.25)),
    "prelu": (
        LINE[:, :, :, None], {"alpha": VECTOR},
        lambda x: np.where(x > 0, x, VECTOR[:, None, None] * x),
    ),
    "rsqrt": (ABOVE, {"epsilon": 0.5}, lambda x: 1 / np.sqrt(x + 0.5)),
    "scaled_tanh": (LINE, {"alpha": 2.0, "beta": 0.5}, lambda x: 2 * np.tanh(0.5 * x)),
    "sigmoid_hard": (LINE, {"alpha": 0.4, "beta": 0.3}, lambda x: np.clip(0.4 * x + 0.3, 0, 1)),
    "softplus_parametric": (
        LINE, {"alpha": VECTOR, "beta": VECTOR + 1},
        lambda x: VECTOR[:, None] * np.log1p(np.exp(x * (VECTOR + 1)[:, None])),
    ),
    "threshold": (LINE, {"alpha": 0.5}, lambda x: np.maximum(x, 0.5)),
    "thresholded_relu": (LINE, {"alpha": 0.5}, lambda x: np.where(x >= 0.5, x, 0)),
}  # fmt: skip

BINARY = {
    "add": np.add,
    "equal": np.equal,
    "floor_div": np.floor_divide,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,
    "mul": np.multiply,
    "not_equal": np.not_equal,
    "real_div": np.true_divide,
    "sub": np.subtract,
}
LOGICAL = {
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
OTHERS = {"cast", "gelu", "pow", "select", "softmax"}
TESTED = {*UNARY, *PARAMETRIC, *BINARY, *LOGICAL, *OTHERS}


@pytest.mark.parametrize("kind", sorted(UNARY))
def test_unary(mil, kind):
    x, reference = UNARY[kind]
    (result,) = mil.apply(kind, {"x": x})
    assert result.dtype == x.dtype
    np.testing.assert_allclose(result, reference(x), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("opset", ["iOS16", "iOS17"])
@pytest.mark.parametrize("kind", sorted(PARAMETRIC))
def test_parametric(mil, kind, opset):
    x, options, reference = PARAMETRIC[kind]
    typed = {name: np.asarray(value, np.float32)[()] for name, value in options.items()}
    (result,) = mil.apply(kind, {"x": x}, opset, **typed)
    np.testing.assert_allclose(result, reference(x), rtol=2e-5, atol=2e-6)


@st.composite
def pairs(draw):
    """Two arrays that broadcast, of halves, so that every operation is exact."""
    shapes = draw(
        hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=1, max_dims=4, max_side=4)
    )
    whole = draw(st.booleans())
    arrays = [
        draw(hnp.arrays(np.int32, shape, elements=st.integers(-6, 6)))
        for shape in shapes.input_shapes
    ]
    return arrays if whole else [array.astype(np.float32) / 2 for array in arrays]


@pytest.mark.parametrize("kind", sorted(BINARY))
@given(both=pairs())
@settings(max_examples=12, deadline=None)
def test_binary(mil, kind, both):
    x, y = both
    if kind in ("floor_div", "mod", "real_div"):
        y = np.where(y == 0, np.ones_like(y), y)
    (result,) = mil.apply(kind, {"x": x, "y": y})
    reference = BINARY[kind](x, y)
    if kind == "real_div" and x.dtype == np.int32:
        reference = np.trunc(reference)
    np.testing.assert_allclose(result, reference, rtol=1e-6)


@pytest.mark.parametrize("kind", sorted(LOGICAL))
def test_logical(mil, kind):
    x, y = LINE > 0, WHOLE % 2 == 0
    (result,) = mil.apply(kind, {"x": x, "y": y})
    assert result.dtype == np.bool_
    np.testing.assert_array_equal(result, LOGICAL[kind](x, y))


def test_powers(mil):
    (result,) = mil.apply("pow", {"x": ABOVE, "y": LINE})
    np.testing.assert_allclose(result, ABOVE**LINE, rtol=2e-5)


def test_select(mil):
    given = {"cond": LINE > 0.5, "a": LINE, "b": -2 * LINE}
    (result,) = mil.apply("select", given)
    np.testing.assert_array_equal(result, np.where(LINE > 0.5, LINE, -2 * LINE))


@pytest.mark.parametrize(
    ("mode", "options"),
    [("EXACT", {}), ("TANH_APPROXIMATION", {"approximate": "tanh"})],
)
def test_gelu(mil, mode, options):
    (result,) = mil.apply("gelu", {"x": LINE}, mode=mode)
    reference = functional.gelu(torch.from_numpy(LINE), **options)
    np.testing.assert_allclose(result, reference, rtol=2e-5, atol=1e-6)


def test_gelu_by_sigmoid(mil):
    (result,) = mil.apply("gelu", {"x": LINE}, mode="SIGMOID_APPROXIMATION")
    np.testing.assert_allclose(result, LINE / (1 + np.exp(-1.702 * LINE)), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(mil, axis):
    (result,) = mil.apply("softmax", {"x": LINE * 30}, axis=axis)
    reference = functional.softmax(torch.from_numpy(LINE * 30), axis)
    np.testing.assert_allclose(result, reference, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("x", "name", "kind"),
    [
        (np.array([-1.9, -0.5, 0.5, 2.9], np.float32), "int32", np.int32),
        (np.array([-1.9, 0.0, 0.5, 2.9], np.float32), "bool", np.bool_),
        (np.array([-2, 0, 70000], np.int32), "fp32", np.float32),
        (np.array([0.1, 3.14159], np.float32), "fp16", np.float16),
        (np.array([False, True]), "fp32", np.float32),
        (np.array([-7, 9], np.int32), "int8", np.int8),
        (np.array([7, 200], np.int32), "uint8", np.uint8),
    ],
)
def test_cast(mil, x, name, kind):
    (result,) = mil.apply("cast", {"x": x}, dtype=name)
    assert result.dtype == kind
    np.testing.assert_array_equal(result, x.astype(kind))
