"""A weight whose smaller half is zero and not stored, the rest as indices into a palette."""

from __future__ import annotations

from typing import Any

from ...core.formats import Format
from ...core.kmeans import palette_of
from ...core.rounding import kept
from .replace import packed_integers, replace_constant


def put_sparse(variable: Any, form: Format, name: str) -> int:
    """Puts a mask, a palette and the indices of what the mask keeps in the place of a weight.

    Args:
        variable: The output of a float16 constant of finite numbers.
        form: A sparse palette; the target has to be iOS18 or later.
        name: What the operation that unpacks it is called.

    Returns:
        Bytes of mask, palette and indices.
    """
    weight = variable.val
    mask = kept(form, weight)
    colours, indices = palette_of(weight[mask], 2**form.bits)
    arguments = {
        "indices_mask": packed_integers(mask, "uint1"),
        "indices_nonzero_data": packed_integers(indices, f"uint{form.bits}"),
        "lut": colours.reshape(*[1] * weight.ndim, 2**form.bits, 1),
    }

    def make(mb: Any) -> Any:
        same, values = mb.constexpr_lut_to_sparse(**arguments, name=f"{name}_values")
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=same, name=name)

    replace_constant(variable, make)
    return -(-indices.size * form.bits // 8) + -(-mask.size // 8) + colours.nbytes
