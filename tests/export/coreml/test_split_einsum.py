"""Attention by einsum per head, against torch's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.export.coreml.split_einsum import SplitEinsum
from torch.nn import functional

small = st.integers(1, 5)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 2),
    heads=small,
    width=small,
    queries=st.integers(1, 40),
    keys=st.integers(1, 20),
    slice_size=st.none() | st.integers(1, 45),
    scale=st.floats(0.05, 2),
)
def test_it_is_scaled_dot_product_attention(rows, heads, width, queries, keys, slice_size, scale):
    torch.manual_seed(0)
    query = torch.randn(rows, heads * width, 1, queries)
    key, value = torch.randn(2, rows, heads * width, 1, keys)
    split = (rows, heads, width, -1)
    # (rows, heads, tokens, width), as torch has it.
    theirs = (each.reshape(split).mT for each in (query, key, value))
    wanted = functional.scaled_dot_product_attention(*theirs, scale=scale)
    got = SplitEinsum(slice_size).attend(query, key, value, heads, scale)
    torch.testing.assert_close(got, wanted.mT.reshape(query.shape), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("queries", "lengths"), [(9, [4, 4, 1]), (8, [4, 4]), (3, [3])])
def test_slices_cover_every_query(queries, lengths):
    key = value = torch.randn(1, 6, 1, 5)
    query = torch.randn(1, 6, 1, queries)
    whole, sliced = (
        torch.export.export(Attend(size), (query, key, value)).graph for size in (None, 4)
    )
    assert [size for size in scores(whole) if size != queries] == []
    assert scores(sliced) == lengths * 2


class Attend(torch.nn.Module):
    def __init__(self, slice_size):
        super().__init__()
        self.split = SplitEinsum(slice_size)

    def forward(self, query, key, value):
        return self.split.attend(query, key, value, 2, 0.5)


def scores(graph):
    """Queries of each softmax."""
    targets = [node for node in graph.nodes if "softmax" in str(node.target)]
    return [node.meta["val"].shape[-1] for node in targets]
