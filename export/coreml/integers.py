"""A weight as integers of 8 or 4 bits, with a scale per output channel or block of inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.formats import Format
from ...core.rounding import integer_blocks, integer_channels
from .replace import half_scales, packed_integers, replace_constant
from .toolbox import TARGETS

# The first target with scales per block, and with 4 bits.
_BLOCKED = "iOS18"


def put_integers(variable: Any, form: Format, target: str, name: str) -> int:
    """Puts integers and scales in the place of a weight.

    The scales are float16, so that weights differ from those of `core.rounding.rounded` by up to
    one part in 2048.

    Args:
        variable: The output of a float16 constant of finite numbers, output channels first.
        form: `int8`, `int8-static` or `int4`.
        target: One of `TARGETS`, which has this format.
        name: What the operation that unpacks it is called.

    Returns:
        Bytes of integers and scales.
    """
    weight = variable.val.astype(np.float32)
    if form.blocked:
        codes, scales = integer_blocks(weight)
        codes = packed_integers(codes, f"int{form.bits}")
    else:
        codes, scales = integer_channels(weight)
    half = half_scales(scales)
    if TARGETS[target] >= TARGETS[_BLOCKED]:
        shape = half.shape if form.blocked else (-1, *[1] * (weight.ndim - 1))
        arguments: dict[str, Any] = {"data": codes, "scale": half.reshape(shape)}
        replace_constant(
            variable, lambda mb: mb.constexpr_blockwise_shift_scale(**arguments, name=name)
        )
    else:
        # A vector of zero points, as coremltools itself writes them.
        arguments = {
            "quantized_data": codes,
            "zero_point": np.zeros(half.shape, np.int8),
            "scale": half,
            "axis": np.int32(0),
        }
        replace_constant(
            variable, lambda mb: mb.constexpr_affine_dequantize(**arguments, name=name)
        )
    return -(-codes.size * form.bits // 8) + half.nbytes
