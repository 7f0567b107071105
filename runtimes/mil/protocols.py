"""The few attributes of coremltools' program objects that the evaluator reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

# What an operation takes for one parameter: a tensor, a tuple of them, or a text option. Numbers
# and lists of a program are constants, hence tensors too.
Value = torch.Tensor | tuple[torch.Tensor, ...] | str
Values = dict[str, Value]


class Variable(Protocol):
    """`coremltools.converters.mil.mil.Var`: what one operation gives and others take."""

    name: str
    op: Any
    val: Any
    shape: Sequence[Any]
    dtype: Any


class Operation(Protocol):
    """`coremltools.converters.mil.mil.Operation`; its name is made of the path of its layer."""

    name: str
    op_type: str
    inputs: Mapping[str, Any]
    outputs: Sequence[Any]
    blocks: Sequence[Any]


class Function(Protocol):
    """`coremltools.converters.mil.mil.Function`: operations in the order of execution."""

    inputs: Mapping[str, Any]
    outputs: Sequence[Any]
    operations: Sequence[Any]
