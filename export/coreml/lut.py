"""A weight as palettes and an index into them for every element."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.formats import Format
from ...core.rounding import palettes
from .replace import packed_integers, replace_constant
from .toolbox import TARGETS

# The first target that takes several palettes per tensor, and three bits.
_GROUPED = "iOS18"


def put_palettes(variable: Any, form: Format, target: str, name: str) -> int:
    """Puts palettes and indices in the place of a weight.

    Args:
        variable: The output of a float16 constant of finite numbers, output channels first.
        form: One of the `palette…` formats.
        target: One of `TARGETS`, which has this format.
        name: What the operation that unpacks it is called.

    Returns:
        Bytes of palettes and indices.
    """
    colours, indices = palettes(form, variable.val)
    if TARGETS[target] >= TARGETS[_GROUPED]:
        # One palette per run of output channels.
        shape = (len(colours), *[1] * (indices.ndim - 1), 2**form.bits, 1)
        arguments = {
            "indices": packed_integers(indices, f"uint{form.bits}"),
            "lut": colours.reshape(shape),
        }
    else:
        (only,) = colours
        arguments = {
            "indices": pack(indices, form.bits),
            "lut": only,
            "shape": np.array(indices.shape, np.uint32),
        }
    replace_constant(variable, lambda mb: mb.constexpr_lut_to_dense(**arguments, name=name))
    return -(-indices.size * form.bits // 8) + colours.nbytes


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
