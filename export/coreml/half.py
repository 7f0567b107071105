"""Float16 everywhere but in islands, without copies of the weights that nobody needs."""

from __future__ import annotations

import gc
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import ExportError, listing
from .layer_names import name_operations
from .toolbox import Progress, converting, coremltools, inside

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Program

_CAST = "common::add_fp16_cast"
# Smaller constants take coremltools' way, which guards epsilons against becoming zero.
_WEIGHT_SIZE = 1024


def to_half(
    program: Program, islands: Collection[str], target: Any, progress: Progress | None = None
) -> Program:
    """Converts a float32 program to float16, in place; types of inputs and outputs stay.

    Memory holds the weights in both types once, and in the end only in float16; coremltools' own
    pass would hold a third copy.

    Args:
        program: The program, which is consumed.
        islands: Names of the operations that stay in float32.
        target: A member of `coremltools.target`.
        progress: Told how far the work is.

    Returns:
        The program; operations that it now computes in float16 have the suffix `_cast_fp16`.

    Raises:
        ExportError: There is no operation of such a name, or coremltools refuses the program.
    """
    known = {op.name for each in program.functions.values() for op in each.operations}
    unknown = sorted(set(islands) - known)
    if unknown:
        raise ExportError(f"The program has no operations {listing(unknown)} to keep in float32.")
    ct = coremltools()
    pipeline = ct.PassPipeline.DEFAULT
    # What comes before is done, and would rename what `islands` names.
    pipeline.passes = pipeline.passes[pipeline.passes.index(_CAST) :]
    with converting("convert the program to float16", progress, ((0.0, 0.0), (0.5, 1.0))):
        _narrowing(islands)(program)
        # Operations and their variables refer to each other: only this frees the removed weights.
        gc.collect()
        if progress is not None:
            progress(0.5)
        program = ct.convert(
            program,
            source="milinternal",
            convert_to="milinternal",
            minimum_deployment_target=target,
            # Casts are in place; what is left are the 16-bit integers that come with float16.
            compute_precision=ct.transform.FP16ComputePrecision(lambda _: False),
            pass_pipeline=pipeline,
        )
    name_operations(program)
    return program


def _narrowing(islands: Collection[str]) -> Any:
    """The pass that casts every operation but `islands`."""
    base = coremltools().transform.FP16ComputePrecision
    mb = inside("converters.mil.mil").Builder

    class Narrowing(base):  # type: ignore[misc, valid-type]
        @staticmethod
        def fp16_overflow(op: Operation) -> bool:
            # The search of coremltools takes ten times the memory of the weight.
            constants = [each for each in _flat(op) if _is_constant(each)]
            if all(_fits(each.val) for each in constants):
                return False
            return bool(base.fp16_overflow(op))

        def transform_op(self, op: Operation) -> None:
            weights = [each for each in _flat(op) if _is_constant(each)]
            super().transform_op(op)
            for weight in weights:
                _let_go(weight, mb)

    return Narrowing(op_selector=lambda op: op.name not in islands)


def _let_go(weight: Any, mb: Any) -> None:
    """Puts the float16 numbers of a weight in its place, where nothing else needs the float32."""
    if np.size(weight.val) < _WEIGHT_SIZE or len(weight.child_ops) != 1 or weight.consuming_blocks:
        return
    cast = weight.child_ops[0]
    block = weight.op.enclosing_block
    if cast.op_type != "cast":
        return
    half = mb.const(val=cast.outputs[0].val, name=cast.name, before_op=cast)
    block.replace_uses_of_var_after_op(anchor_op=cast, old_var=cast.outputs[0], new_var=half)
    block.remove_ops([cast, weight.op])


def _flat(op: Operation) -> list[Any]:
    """The variables that an operation reads."""
    values = (each if isinstance(each, (list, tuple)) else [each] for each in op.inputs.values())
    return [var for each in values for var in each]


def _is_constant(var: Any) -> bool:
    is_const = var.op is not None and var.op.op_type == "const"
    return is_const and bool(var.is_tensor_or_scalar_of(dtype="fp32"))


def _fits(value: Any) -> bool:
    limit = np.finfo(np.float16).max
    return np.size(value) == 0 or bool(np.max(value) <= limit and np.min(value) >= -limit)
