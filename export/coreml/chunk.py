"""One program into two of balanced size, the second fed what the first gave, by name.

coremltools has `bisect_model` for this. It reads the package from disk twice, cuts where half of
the weights are reached whatever crosses the cut, orders the outputs by chance and stores weights
that both halves need twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import OptionError
from .cut import best_cut, is_weight, reads
from .toolbox import inside, quiet

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Program


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
    body = [each for each in function.operations if not is_weight(each)]
    if any(_is_symbolic(each) for op in body for each in op.outputs):
        raise OptionError(
            "A model of several sizes cannot be split in chunks; give one size or leave out "
            "--chunk."
        )
    cut = best_cut(body, function)
    crossing = [(each.name, each) for each in cut.crossing]
    inputs = list(function.inputs.items())
    first = _part(body[: cut.index], inputs, [each for _, each in crossing], function)
    rest = body[cut.index :]
    second = _part(rest, [*inputs, *crossing], function.outputs, function)
    names = tuple(name for name, _ in crossing)
    return Chunks((first, second), cut.weights, names, cut.crossing_bytes)


def _part(
    body: Sequence[Operation],
    inputs: Sequence[tuple[str, Any]],
    outputs: Sequence[Any],
    function: Any,
) -> Program:
    """A program of some operations of another."""
    mil = inside("converters.mil.mil")
    mb = mil.Builder
    read = {id(each) for op in body for each in reads(op)}
    taken = [(name, variable) for name, variable in inputs if id(variable) in read]
    holders = {name: mb.placeholder(variable.shape, variable.dtype) for name, variable in taken}
    with quiet(), mil.Function(holders, opset_version=function.opset_version) as part:
        known = {id(variable): part.inputs[name] for name, variable in taken}
        for op in body:
            _copy(op, known, mb)
        part.set_outputs([known[id(each)] for each in outputs])
    ct_inputs = inside("converters").TensorType
    part.set_input_types(
        tuple(ct_inputs(name, variable.shape, dtype=variable.dtype) for name, variable in taken)
    )
    program = mil.Program()
    program.add_function("main", part)
    return program


def _copy(op: Operation, known: dict[int, Any], mb: Any) -> None:
    """Makes an operation again, and before it the constants that it needs."""
    if op.op_type == "const":
        made = mb.const(val=op.outputs[0].val, name=op.name)
    else:
        for each in reads(op):
            if id(each) not in known:
                _copy(each.op, known, mb)
        arguments = {
            name: [known[id(each)] for each in value]
            if isinstance(value, (list, tuple))
            else known[id(value)]
            for name, value in op.inputs.items()
        }
        made = getattr(mb, op.op_type)(**arguments, name=op.name)
    outputs = made if isinstance(made, (list, tuple)) else [made]
    for old, new in zip(op.outputs, outputs, strict=True):
        new.name = old.name
        known[id(old)] = new


def _is_symbolic(variable: Any) -> bool:
    shape = getattr(variable, "shape", None) or ()
    return not all(isinstance(size, (int, np.integer)) for size in shape)
