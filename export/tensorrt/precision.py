"""Number types that a GPU lacks, refused before a build would fail on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ...core.errors import OptionError, choices
from ...core.gpus import FIRST_CAPABILITY, describe, target_name

# What every GPU that engines are built for computes in.
_EVERYWHERE = ("float32", "float16", "int8")
# What to do instead of a newer GPU.
_INSTEAD: Mapping[str, str] = {
    "bfloat16": "export with --precision fp16",
    "int4": "quantize to int8 or int8-static",
    "float8": "quantize to int8 or int8-static",
    "float4": "quantize to int8 or int8-static",
}


def require_types(dtypes: Collection[str], capability: tuple[int, int], what: str) -> None:
    """Raises `OptionError` where a GPU has no tensor cores for a type.

    Args:
        dtypes: The types of the tensors, such as `bfloat16`.
        capability: Compute capability of the GPU.
        what: What computes in them, the subject of the sentence.
    """
    for dtype, first in FIRST_CAPABILITY.items():
        if dtype in dtypes and capability < first:
            has = [each for each, since in FIRST_CAPABILITY.items() if capability >= since]
            raise OptionError(
                f"{what} computes in {dtype}, which GPUs have from {target_name(first)} on; "
                f"{describe(capability)} has {choices((*_EVERYWHERE, *has))}; choose a newer GPU, "
                f"or {_INSTEAD[dtype]}."
            )
