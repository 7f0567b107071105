"""Every supported operation, and the evaluation of a single one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ...core.errors import RunError
from .ops_activation import ACTIVATIONS
from .ops_arithmetic import ARITHMETIC
from .ops_compressed import COMPRESSED
from .ops_conv import PRODUCTS
from .ops_create import CREATIONS
from .ops_gather import GATHERS
from .ops_normalization import NORMALIZATIONS
from .ops_pool import POOLS
from .ops_reduction import REDUCTIONS
from .ops_shape import SHAPES
from .ops_slice import SLICES
from .ops_spatial import SPATIAL
from .protocols import Operation, Value
from .values import HELD, type_name

# Type of an operation to a function of MIL's parameters; "type@iOS17" is the one that came with
# that version and reads its parameters otherwise than those before.
OPERATIONS: dict[str, Callable[..., Any]] = {
    **ACTIVATIONS,
    **ARITHMETIC,
    **COMPRESSED,
    **CREATIONS,
    **GATHERS,
    **NORMALIZATIONS,
    **POOLS,
    **PRODUCTS,
    **REDUCTIONS,
    **SHAPES,
    **SLICES,
    **SPATIAL,
}

# These give values that they were given (or zero), so that float16 stays float16.
MOVES = frozenset(
    {
        "batch_to_space", "concat", "crop", "depth_to_space", "expand_dims", "flatten2d", "gather",
        "gather_along_axis", "gather_nd", "identity", "max_pool", "maximum", "minimum", "pad",
        "pixel_shuffle", "pixel_unshuffle", "reduce_max", "reduce_min", "relu", "reshape",
        "reshape_like", "resize_nearest_neighbor", "reverse", "reverse_sequence", "select",
        "slice_by_index", "slice_by_size", "slice_update", "sliding_windows", "space_to_batch",
        "space_to_depth", "split", "squeeze", "stack", "tile", "transpose",
        "upsample_nearest_neighbor",
    }
)  # fmt: skip


def version(operation: Operation) -> str:
    """The Core ML version that defined this form of the operation, such as "iOS17"."""
    return next(
        (part for part in type(operation).__module__.split(".") if part.startswith("iOS")), ""
    )


def function_of(operation: Operation) -> Callable[..., Any]:
    """The function that computes an operation.

    Raises:
        RunError: The evaluator does not support the operation.
    """
    kind = operation.op_type
    known = OPERATIONS.get(f"{kind}@{version(operation)}") or OPERATIONS.get(kind)
    if known is None:
        raise RunError(
            f"The Core ML operation '{kind}' ('{operation.name}') is not supported by the "
            "evaluator, only by Core ML itself."
        )
    return known


@torch.no_grad()
def evaluate_operation(
    operation: Operation, inputs: Mapping[str, Value]
) -> tuple[torch.Tensor, ...]:
    """Computes one operation in float32, without rounding.

    Args:
        operation: Any operation of a program but a constant.
        inputs: Its parameters by MIL's names. Floating point tensors are float32.

    Returns:
        Its outputs, in the types of `HELD`; they may be views of the inputs.

    Raises:
        RunError: The operation is not supported, or cannot take these inputs.
    """
    function = function_of(operation)
    try:
        result = function(**inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, RunError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise RunError(
            f"The operation '{operation.op_type}' ('{operation.name}') failed: {reason}."
        ) from error
    results = result if isinstance(result, tuple) else (result,)
    return tuple(
        each.to(HELD[type_name(variable)])
        for each, variable in zip(results, operation.outputs, strict=True)
    )
