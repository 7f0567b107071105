"""Putting something else in the place of a constant, or of what an operation reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .toolbox import inside, quiet

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation

# Gives the new variable, made with the given arguments of every operation and MIL's builder.
Make = Callable[[Any], Any]

_LEAST = np.float16(2.0**-24)


def replace_constant(variable: Any, make: Make) -> None:
    """Puts a new variable in the place of a constant, which is removed.

    Args:
        variable: The output of a `const`.
        make: Makes the new variable with the builder that it is given; all operations that it adds
            lie before the constant.
    """
    constant: Operation = variable.op
    block = constant.enclosing_block
    made = build_before(constant, make)
    with block:
        block.replace_uses_of_var_after_op(
            anchor_op=made.op, old_var=variable, new_var=made, force_replace=True
        )
        block.remove_ops([constant])


def build_before(operation: Operation, make: Make) -> Any:
    """Makes operations before another one; they count as part of its layer.

    Args:
        operation: The operation.
        make: Makes them with the builder that it is given; gives what is returned here.
    """
    mil = inside("converters.mil.mil")
    before, scope = mil.Builder.set_before_op(operation), mil.Builder.scope(*_scopes(operation))
    with quiet(), operation.enclosing_block, scope, before:
        return make(mil.Builder)


def packed_integers(numbers: NDArray[Any], kind: str) -> NDArray[Any]:
    """Integers in the type that coremltools stores in fewer than 8 bits, such as `uint6`."""
    types = inside("converters.mil.mil").types
    packed: NDArray[Any] = numbers.astype(types.nptype_from_builtin(types.string_to_builtin(kind)))
    return packed


def half_scales(scales: NDArray[np.float32]) -> NDArray[np.float16]:
    """Positive scales as float16, which never are zero."""
    return np.maximum(scales.astype(np.float16), _LEAST)


def _scopes(operation: Operation) -> list[Any]:
    """Where an operation comes from, which coremltools wants to know of every other, too."""
    scope = inside("converters.mil.mil.scope")
    sources = (scope.ScopeSource.EXIR_STACK_TRACE, scope.ScopeSource.EXIR_DEBUG_HANDLE)
    return [scope.ScopeInfo(each, operation.scopes.get(each) or [None]) for each in sources]
