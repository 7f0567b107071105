"""Between MIL's types and torch's: constants, feeds and results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...core.errors import RunError
from .protocols import Value, Variable

# MIL type to the torch type that holds its values while a program runs. Half precision is held
# in float32 and rounded, since CPU kernels for it are slow and accumulate otherwise than
# accelerators do; unsigned types that torch hardly supports are held in the next wider one.
HELD = {
    "fp16": torch.float32,
    "fp32": torch.float32,
    "fp64": torch.float32,
    "bool": torch.bool,
    "int4": torch.int8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint1": torch.uint8,
    "uint2": torch.uint8,
    "uint3": torch.uint8,
    "uint4": torch.uint8,
    "uint6": torch.uint8,
    "uint8": torch.uint8,
    "uint16": torch.int32,
    "uint32": torch.int64,
}

# The element types that a package's inputs and outputs may have.
ARRAYS = {
    "fp16": np.float16,
    "fp32": np.float32,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
}

# Plain NumPy types: those of coremltools for less than eight bits carry metadata.
_PLAIN = {"uint16": np.int32, "uint32": np.int64, "fp64": np.float32}


def type_name(variable: Variable) -> str:
    """The element type of a variable: "fp16", "fp32", "int32", "bool", "string", …."""
    from coremltools.converters.mil.mil import types

    return str(types.builtin_to_string(variable.dtype))


def constant(variable: Variable) -> Value:
    """The value of a constant, in the type that `HELD` gives; a text stays one.

    Arrays share memory with the program where they already have that type.

    Raises:
        RunError: The constant is of a kind that no supported operation takes.
    """
    value = variable.val
    if isinstance(value, str):
        return value
    if not isinstance(value, (np.ndarray, np.generic, bool, int, float)):
        raise RunError(
            f"The constant '{variable.name}' is a {type(value).__name__}, which the evaluator "
            "does not support."
        )
    return to_torch(np.asarray(value), type_name(variable))


def to_torch(array: NDArray[Any], name: str) -> torch.Tensor:
    """A tensor with the values of `array`, whose MIL type is `name`."""
    plain = np.dtype(_PLAIN.get(name, array.dtype.type))
    array = np.ascontiguousarray(array, dtype=plain).reshape(array.shape)
    if not array.flags.writeable:
        array = array.copy()
    return torch.from_numpy(array).to(HELD[name])


def to_numpy(tensor: torch.Tensor, name: str) -> NDArray[Any]:
    """A fresh array with the values of `tensor` in the MIL type `name`."""
    return np.array(tensor.detach().cpu().numpy(), dtype=ARRAYS[name], order="C")


def integers(value: Value | None) -> list[int]:
    """The numbers of an integer parameter, of any rank, in order."""
    if not isinstance(value, torch.Tensor):
        raise RunError(f"A list of integers was expected, not {value!r}.")
    return [int(number) for number in value.reshape(-1).tolist()]


def tensors(value: Value) -> tuple[torch.Tensor, ...]:
    """The members of a parameter that takes several tensors."""
    return value if isinstance(value, tuple) else (_tensor(value),)


def _tensor(value: Value) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise RunError(f"A tensor was expected, not {value!r}.")
    return value


def positive(axes: Sequence[int], rank: int) -> list[int]:
    """Axes counted from the front."""
    return [axis + rank if axis < 0 else axis for axis in axes]
