"""Views of tensors on disk, against the same operations on torch tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kdexport.export.tensors import PickledTensor, TensorView

# What diffusers' converters do to a tensor.
OPERATIONS = {
    "transpose": lambda t: t.T.contiguous(),
    "first rows": lambda t: t[: t.shape[0] // 2].clone().detach(),
    "last rows": lambda t: t[t.shape[0] // 2 :],
    "rows of a matrix": lambda t: t[1:3, :],
    "whole": lambda t: t.clone(),
}


@given(
    rows=st.integers(4, 9),
    columns=st.integers(4, 9),
    names=st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=2),
)
def test_matrices(rows, columns, names):
    tensor = torch.arange(rows * columns, dtype=torch.float32).reshape(rows, columns)
    view = TensorView.of(PickledTensor(tensor))
    for name in names:
        tensor, view = OPERATIONS[name](tensor), OPERATIONS[name](view)
    assert view.shape == tuple(tensor.shape)
    assert view.ndim == tensor.ndim
    array = view.read()
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, tensor.numpy())


@pytest.mark.parametrize("key", [(slice(None), slice(None), 0), (slice(None), slice(None), 0, 0)])
def test_convolutions_become_matrices(key):
    tensor = torch.randn(3, 4, *(1,) * (len(key) - 2))
    view = TensorView.of(PickledTensor(tensor))[key]
    assert view.shape == (3, 4)
    np.testing.assert_array_equal(view.read(), tensor[key].numpy())


def test_a_scalar_stays_one():
    view = TensorView.of(PickledTensor(torch.tensor(3.0)))
    assert view.read().shape == view.shape == ()


def test_nothing_is_read_before_it_is_asked_for():
    class Unread:
        dtype = np.dtype(np.float16)
        shape = (1 << 20, 1 << 20)

        def read(self):
            raise AssertionError("read too early")

    view = TensorView.of(Unread()).T[:5].contiguous()
    assert view.shape == (5, 1 << 20)
    assert view.dtype == np.float16
    with pytest.raises(AssertionError, match="too early"):
        view.read()
