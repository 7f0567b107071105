"""Where a program is best cut in two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import ExportError
from .toolbox import inside

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation

# The halves may differ by this share of the whole where that makes less cross the cut.
_IMBALANCE = 0.05
# Weights that both halves need, as a share of the whole.
_SHARED = 0.001
# What can cross: the types of Core ML's arrays.
_CROSSING = ("fp16", "fp32", "int32")


@dataclass(frozen=True)
class Cut:
    """Before operation `index`: bytes of weights on either side, and what crosses."""

    index: int
    weights: tuple[int, int]
    crossing: tuple[Any, ...]

    @property
    def imbalance(self) -> int:
        """Bytes by which the halves differ."""
        return abs(self.weights[0] - self.weights[1])

    @property
    def crossing_bytes(self) -> int:
        """Bytes of what crosses."""
        return sum(_bytes(each) for each in self.crossing)


def best_cut(body: Sequence[Operation], function: Any) -> Cut:
    """The cut that the least crosses, among those whose halves are about as large.

    Args:
        body: The operations of a function but constants, in order.
        function: The function, whose outputs must all lie behind the cut.

    Raises:
        ExportError: There is no place to cut.
    """
    cuts = list(_cuts(body, function))
    if not cuts:
        raise ExportError("The program cannot be split in two: nothing lies between its weights.")
    total = sum(cuts[0].weights)
    balanced = [each for each in cuts if each.imbalance <= _IMBALANCE * total]
    if balanced:
        return min(balanced, key=lambda each: (each.crossing_bytes, len(each.crossing)))
    return min(cuts, key=lambda each: each.imbalance)


def _cuts(body: Sequence[Operation], function: Any) -> Iterator[Cut]:
    """Every place between two operations where the program can be cut."""
    position = {id(op): index for index, op in enumerate(body)}
    first, last, sizes = _weight_spans(body, position)
    total = int(sizes.sum())
    spans = _variable_spans(body, position, function)
    for index in range(1, len(body)):
        before, after = int(sizes[first < index].sum()), int(sizes[last >= index].sum())
        if before + after - total > _SHARED * total:
            continue
        crossing = tuple(each for each, start, end in spans if start < index <= end)
        kinds = {
            inside("converters.mil.mil").types.builtin_to_string(each.dtype) for each in crossing
        }
        given = any(
            each.op is not None and position.get(id(each.op), -1) < index
            for each in function.outputs
        )
        # A layer computes with integers only where `dequantize` is in the same program.
        apart = any(each.op is not None and each.op.op_type == "dequantize" for each in crossing)
        if not given and not apart and kinds <= set(_CROSSING):
            yield Cut(index, (before, after), crossing)


def _weight_spans(body: Sequence[Operation], position: Mapping[int, int]) -> tuple[Any, Any, Any]:
    """First and last use, and bytes, of every constant that an operation needs."""
    uses: dict[int, list[int]] = {}
    constants: dict[int, Any] = {}
    for index, op in enumerate(body):
        for constant in _constants(op):
            constants[id(constant)] = constant
            uses.setdefault(id(constant), []).append(index)
    keys = list(constants)
    sizes = np.array([_bytes(constants[key]) for key in keys], np.int64)
    first = np.array([min(uses[key]) for key in keys], np.int64)
    last = np.array([max(uses[key]) for key in keys], np.int64)
    return first, last, sizes


def _variable_spans(
    body: Sequence[Operation], position: Mapping[int, int], function: Any
) -> list[tuple[Any, int, int]]:
    """Every variable with where it is made and where it is used last."""
    spans = []
    for index, op in enumerate(body):
        for output in op.outputs:
            users = [position[id(user)] for user in output.child_ops if id(user) in position]
            if users:
                spans.append((output, index, max(users)))
    return spans


def _constants(op: Operation) -> Iterator[Any]:
    """The constants that an operation needs, through those that unpack compressed weights."""
    for each in reads(op):
        if each.op is not None and each.op.op_type == "const":
            yield each
        elif each.op is not None and is_weight(each.op):
            yield from _constants(each.op)


def reads(op: Operation) -> list[Any]:
    """The variables that an operation reads."""
    values = (each if isinstance(each, (list, tuple)) else [each] for each in op.inputs.values())
    return [each for value in values for each in value if each is not None]


def is_weight(op: Operation) -> bool:
    """Whether an operation gives a constant, stored as it is or compressed."""
    return op.op_type == "const" or str(op.op_type).startswith("constexpr_")


def _bytes(variable: Any) -> int:
    """What a constant or a tensor takes."""
    types = inside("converters.mil.mil").types
    if variable.dtype == types.str:
        return 0
    bits = types.builtin_to_string(variable.dtype)
    width = 1 if bits == "bool" else int("".join(each for each in bits if each.isdigit()) or 8)
    shape = variable.shape if hasattr(variable, "shape") else ()
    return -(-int(np.prod(shape, dtype=np.int64)) * width // 8)
