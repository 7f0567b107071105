"""A weight as a table of numbers and an index into it for every element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .kmeans import palette_of
from .toolbox import TARGETS, inside, quiet

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation

# The first target that takes several palettes per tensor.
_GROUPED = "iOS18"
# Channels per palette there: the number in the examples of coremltools' guide.
GROUP = 16
# More palettes are made as long as they take no more than this share of the indices.
_MOST_PALETTE = 0.05


@dataclass(frozen=True)
class Palettized:
    """One weight and what became of it.

    Attributes:
        name: The weight.
        bits: Of each index.
        palettes: How many palettes it has.
        elements: How many weights it holds.
        bytes: Of indices and palettes.
    """

    name: str
    bits: int
    palettes: int
    elements: int
    bytes: int

    @property
    def constant(self) -> str:
        """Name of the operation that unpacks it."""
        return f"{self.name}_palettized"


def put_palette(name: str, variable: Any, bits: int, target: str) -> Palettized:
    """Puts palettes and indices in the place of a weight.

    Args:
        name: What to call it.
        variable: The output of a float16 constant of finite numbers.
        bits: Of each index.
        target: One of `TARGETS`.
    """
    mil = inside("converters.mil.mil")
    weight: Operation = variable.op
    groups = _groups(variable, bits) if TARGETS[target] >= TARGETS[_GROUPED] else 1
    parts = np.split(variable.val, groups, axis=0)
    clustered = [palette_of(part, 2**bits) for part in parts]
    palettes = np.stack([palette for palette, _ in clustered])
    indices = np.concatenate([index for _, index in clustered])
    stored = -(-indices.size * bits // 8) + palettes.nbytes
    result = Palettized(name, bits, groups, int(indices.size), stored)
    block = weight.enclosing_block
    with quiet(), block, mil.Builder.scope(*_scopes(weight)):
        arguments = {"name": result.constant, "before_op": weight}
        if TARGETS[target] >= TARGETS[_GROUPED]:
            kind = mil.types.nptype_from_builtin(mil.types.string_to_builtin(f"uint{bits}"))
            shape = (groups, *[1] * (indices.ndim - 1), 2**bits, 1)
            arguments |= {"indices": indices.astype(kind), "lut": palettes.reshape(shape)}
        else:
            arguments |= {
                "indices": pack(indices, bits),
                "lut": palettes[0],
                "shape": np.array(indices.shape, np.uint32),
            }
        dense = mil.Builder.constexpr_lut_to_dense(**arguments)
        block.replace_uses_of_var_after_op(
            anchor_op=dense.op, old_var=variable, new_var=dense, force_replace=True
        )
        block.remove_ops([weight])
    return result


def _scopes(operation: Operation) -> list[Any]:
    """Where an operation comes from, which coremltools wants to know of every other, too."""
    scope = inside("converters.mil.mil.scope")
    sources = (scope.ScopeSource.EXIR_STACK_TRACE, scope.ScopeSource.EXIR_DEBUG_HANDLE)
    return [scope.ScopeInfo(each, operation.scopes.get(each) or [None]) for each in sources]


def _groups(variable: Any, bits: int) -> int:
    """How many palettes a weight has: one per `GROUP` output channels where they stay small."""
    channels = int(variable.shape[0])
    users = {user.op_type for user in variable.child_ops}
    if channels % GROUP or not users <= {"conv", "linear"}:
        return 1
    groups = channels // GROUP
    small = groups * 2**bits * 2 <= _MOST_PALETTE * variable.val.size * bits / 8
    return groups if small else 1


def pack(indices: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Indices of few bits one after the other in bytes, the lowest bits first."""
    flat = indices.reshape(-1, 1)
    # Eight indices fill whole bytes; unpacked, each takes eight bytes.
    step = 1 << 20
    parts = [
        np.packbits(
            np.unpackbits(flat[start : start + step], axis=1, count=bits, bitorder="little"),
            bitorder="little",
        )
        for start in range(0, len(flat), step)
    ]
    return np.concatenate(parts)
