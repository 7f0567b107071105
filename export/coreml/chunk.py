"""One program into two of balanced size, the second fed what the first gave, by name.

coremltools has `bisect_model` for this. It reads the package from disk twice, cuts where half of
the weights are reached whatever crosses the cut, orders the outputs by chance and stores weights
that both halves need twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import ExportError, OptionError
from .toolbox import inside, quiet

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Program

# The halves may differ by this share of the whole where that makes less cross the cut.
_IMBALANCE = 0.05
# Weights that both halves need, as a share of the whole.
_SHARED = 0.001
# What can cross: the types of Core ML's arrays.
_CROSSING = ("fp16", "fp32", "int32")


@dataclass(frozen=True)
class Chunks:
    """The halves of a program.

    Attributes:
        programs: The first and the second half.
        weights: Bytes of the weights in each of them.
        crossing: Names of the tensors that the first gives and the second takes.
        crossing_bytes: What these take.
    """

    programs: tuple[Program, Program]
    weights: tuple[int, int]
    crossing: tuple[str, ...]
    crossing_bytes: int


@dataclass(frozen=True)
class _Cut:
    """Before operation `index`: bytes of weights on either side, and what crosses."""

    index: int
    weights: tuple[int, int]
    crossing: tuple[Any, ...]

    @property
    def imbalance(self) -> int:
        return abs(self.weights[0] - self.weights[1])

    @property
    def crossing_bytes(self) -> int:
        return sum(_bytes(each) for each in self.crossing)


def split_program(program: Program) -> Chunks:
    """Splits a program in two whose weights take about the same space.

    The cut lies where the least crosses it, among those places where the halves differ by at most
    a twentieth of the whole. The halves share the memory of the weights with the program, which
    must not be used any more.

    Args:
        program: A program of one function, in its final types, compressed or not.

    Raises:
        OptionError: The program has several sizes.
        ExportError: It cannot be cut: an output is there before half of the weights are used.
    """
    function = program.functions["main"]
    body = [each for each in function.operations if not _is_weight(each)]
    if any(_is_symbolic(each) for op in body for each in op.outputs):
        raise OptionError(
            "A model of several sizes cannot be split in chunks; give one size or leave out "
            "--chunk."
        )
    cut = _best_cut(body, function)
    crossing = [(each.name, each) for each in cut.crossing]
    inputs = list(function.inputs.items())
    first = _part(body[: cut.index], inputs, [each for _, each in crossing], function)
    rest = body[cut.index :]
    second = _part(rest, [*inputs, *crossing], function.outputs, function)
    names = tuple(name for name, _ in crossing)
    return Chunks((first, second), cut.weights, names, cut.crossing_bytes)


def _best_cut(body: Sequence[Operation], function: Any) -> _Cut:
    cuts = [each for each in _cuts(body, function)]
    if not cuts:
        raise ExportError("The program cannot be split in two: nothing lies between its weights.")
    total = sum(cuts[0].weights)
    balanced = [each for each in cuts if each.imbalance <= _IMBALANCE * total]
    if balanced:
        return min(balanced, key=lambda each: (each.crossing_bytes, len(each.crossing)))
    return min(cuts, key=lambda each: each.imbalance)


def _cuts(body: Sequence[Operation], function: Any) -> Iterable[_Cut]:
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
        kinds = {inside("converters.mil.mil").types.builtin_to_string(each.dtype) for each in crossing}
        given = any(each.op is not None and position.get(id(each.op), -1) < index for each in function.outputs)
        if not given and kinds <= set(_CROSSING):
            yield _Cut(index, (before, after), crossing)


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


def _part(
    body: Sequence[Operation], inputs: Sequence[tuple[str, Any]], outputs: Sequence[Any], function: Any
) -> Program:
    """A program of some operations of another."""
    mil = inside("converters.mil.mil")
    mb = mil.Builder
    read = {id(each) for op in body for each in _flat(op)}
    taken = [(name, variable) for name, variable in inputs if id(variable) in read]
    holders = {name: mb.placeholder(variable.shape, variable.dtype) for name, variable in taken}
    with quiet(), mil.Function(holders, opset_version=function.opset_version) as part:
        known = {id(variable): part.inputs[name] for name, variable in taken}
        for op in body:
            _copy(op, known, mb)
        part.set_outputs([known[id(each)] for each in outputs])
    ct_inputs = inside("converters").TensorType
    part.set_input_types(tuple(ct_inputs(name, variable.shape, dtype=variable.dtype) for name, variable in taken))
    program = mil.Program()
    program.add_function("main", part)
    return program


def _copy(op: Operation, known: dict[int, Any], mb: Any) -> None:
    """Makes an operation again, and before it the constants that it needs."""
    if op.op_type == "const":
        made = mb.const(val=op.outputs[0].val, name=op.name)
    else:
        for each in _flat(op):
            if id(each) not in known:
                _copy(each.op, known, mb)
        arguments = {
            name: [known[id(each)] for each in value] if isinstance(value, (list, tuple)) else known[id(value)]
            for name, value in op.inputs.items()
        }
        made = getattr(mb, op.op_type)(**arguments, name=op.name)
    outputs = made if isinstance(made, (list, tuple)) else [made]
    for old, new in zip(op.outputs, outputs, strict=True):
        new.name = old.name
        known[id(old)] = new


def _constants(op: Operation) -> Iterable[Any]:
    """The constants that an operation needs, through those that unpack compressed weights."""
    for each in _flat(op):
        if each.op is not None and each.op.op_type == "const":
            yield each
        elif each.op is not None and _is_weight(each.op):
            yield from _constants(each.op)


def _flat(op: Operation) -> list[Any]:
    values = (each if isinstance(each, (list, tuple)) else [each] for each in op.inputs.values())
    return [each for value in values for each in value if each is not None]


def _is_weight(op: Operation) -> bool:
    return op.op_type == "const" or str(op.op_type).startswith("constexpr_")


def _is_symbolic(variable: Any) -> bool:
    shape = getattr(variable, "shape", None) or ()
    return not all(isinstance(size, (int, np.integer)) for size in shape)


def _bytes(variable: Any) -> int:
    """What a constant or a tensor takes."""
    types = inside("converters.mil.mil").types
    if variable.dtype == types.str:
        return 0
    bits = types.builtin_to_string(variable.dtype)
    width = 1 if bits == "bool" else int("".join(each for each in bits if each.isdigit()) or 8)
    shape = variable.shape if hasattr(variable, "shape") else ()
    return -(-int(np.prod(shape, dtype=np.int64)) * width // 8)
