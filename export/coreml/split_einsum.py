"""Attention head by head on channels-first tensors, for the Neural Engine."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SplitEinsum:
    """Scaled dot-product attention with two einsums per head, or per head and slice of queries.

    Attributes:
        slice_size: Most queries that are handled at once; None for all of them. A length that it
            does not divide leaves a shorter last slice.
    """

    slice_size: int | None = None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float) -> Tensor:
        """Scaled dot-product attention.

        Args:
            query: `(batch, heads * width, 1, queries)`.
            key: `(batch, heads * width, 1, keys)`.
            value: The shape of `key`.
            heads: Number of heads.
            scale: Factor of the scores.

        Returns:
            The shape of `query`.
        """
        queries = (query * scale).chunk(heads, dim=1)
        # The one transposition: the einsum of Core ML contracts the last axis of its first operand
        # with the second axis of the other.
        keys = key.transpose(1, 3).chunk(heads, dim=3)
        values = value.chunk(heads, dim=1)
        return torch.cat(
            [self._head(*each) for each in zip(queries, keys, values, strict=True)], dim=1
        )

    def _head(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """One head: `(b, width, 1, queries)`, `(b, keys, 1, width)`, `(b, width, 1, keys)`."""
        if self.slice_size is None or query.shape[3] <= self.slice_size:
            return _attend(query, key, value)
        slices = torch.split(query, self.slice_size, dim=3)
        return torch.cat([_attend(each, key, value) for each in slices], dim=3)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    # Each operand in the order that Core ML's einsum takes: `nchw,nwhu->nchu`.
    weights = torch.einsum("bkhc,bchq->bkhq", key, query).softmax(dim=1)
    return torch.einsum("bchk,bkhq->bchq", value, weights)
