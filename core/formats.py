"""How the weights of a layer may be stored, and with them what it computes on.

One vocabulary for all backends: each takes the formats that it has, and refuses the others by
name. The arithmetic of each is in `rounding.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import OptionError, choices

# Tensors with fewer numbers are not worth it: coremltools leaves them as they are, too.
SMALLEST = 2048
# Output channels that share a palette in the grouped formats: as in coremltools' guide.
GROUP = 16
# There are several palettes only where they take no more than this share of the indices.
_MOST_PALETTE = 0.05
# Weights that share a scale, along the input channels; where the channels cannot be cut so evenly
# that blocks have at least the smaller size, all of them share one.
BLOCK, LEAST_BLOCK = 32, 8


@dataclass(frozen=True)
class Format:
    """How a weight is stored.

    Attributes:
        name: What recipes call it.
        kind: `float` (as the export's precision has it), `palette` (an index into k-means colours),
            `integer` (multiples of a scale) or `float8` (e4m3, multiples of a scale).
        bits: Of each stored weight; 0 for `float`, whose size is that of the precision.
        grouped: Whether each `GROUP` output channels have a palette of their own.
        blocked: Whether scales are of blocks of input channels, not of output channels.
        sparse: Share of the weights, the smallest ones, that are zero and not stored.
        activations: What the layer's input is: None (as it is), `static` (quantized with
            calibrated ranges) or `dynamic` (with the range found at each call).
    """

    name: str
    kind: str
    bits: int = 0
    grouped: bool = False
    blocked: bool = False
    sparse: float = 0.0
    activations: str | None = None


def _palettes(grouped: bool) -> list[Format]:
    suffix = "-grouped" if grouped else ""
    return [
        Format(f"palette{bits}{suffix}", "palette", bits, grouped=grouped)
        for bits in (8, 6, 4, 3, 2, 1)
    ]


FLOAT = Format("float", "float")
FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        FLOAT,
        *_palettes(grouped=False),
        *_palettes(grouped=True),
        Format("sparse50-palette6", "palette", 6, sparse=0.5),
        Format("int8", "integer", 8),
        Format("int4", "integer", 4, blocked=True),
        Format("int8-dynamic", "integer", 8, activations="dynamic"),
        Format("int8-static", "integer", 8, activations="static"),
        Format("fp8", "float8", 8, activations="static"),
    )
}


def format_named(name: object) -> Format:
    """The format of a name; raises `OptionError` naming those that exist."""
    if not isinstance(name, str) or name not in FORMATS:
        raise OptionError(f"There is no weight format {name!r}; choose {choices(FORMATS)}.")
    return FORMATS[name]


def is_worth_it(shape: Sequence[int]) -> bool:
    """Whether a tensor is a weight that formats are about: a matrix or kernel of some size."""
    return len(shape) >= 2 and math.prod(shape) >= SMALLEST


def palette_count(form: Format, shape: Sequence[int]) -> int:
    """How many palettes a tensor has; `shape` begins with the output channels."""
    channels = int(shape[0])
    if not form.grouped or channels % GROUP:
        return 1
    groups = channels // GROUP
    small = groups * (2 << form.bits) <= _MOST_PALETTE * math.prod(shape) * form.bits / 8
    return groups if small else 1


def block_size(shape: Sequence[int]) -> int:
    """Input channels that share a scale in blocked formats; divides `shape[1]`."""
    channels = int(shape[1])
    size = math.gcd(channels, BLOCK)
    return size if size >= LEAST_BLOCK else channels


def stored_bytes(form: Format, shape: Sequence[int], float_bytes: int = 2) -> int:
    """Bytes of a weight in a format: its codes, palettes, scales and masks.

    Args:
        form: The format.
        shape: Of the weight, output channels first.
        float_bytes: Of a weight in `float`, and of a scale.
    """
    count = math.prod(shape)
    if form.kind == "float":
        return count * float_bytes
    codes = math.ceil(round(count * (1 - form.sparse)) * form.bits / 8)
    if form.kind == "palette":
        mask = math.ceil(count / 8) if form.sparse else 0
        return codes + mask + (2 << form.bits) * palette_count(form, shape)
    if form.kind == "float8":
        return codes + float_bytes
    scales = count // block_size(shape) if form.blocked else shape[0]
    return codes + scales * float_bytes
