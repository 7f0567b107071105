"""Weight formats that a GPU lacks, refused before an export and before ranges are measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...core.formats import Format
from ...core.gpus import Gpu
from .precision import require_types

# The type that a weight is stored in, by the kind of its format and its bits.
_TYPES: Mapping[tuple[str, int], str] = {
    ("integer", 4): "int4",
    ("integer", 8): "int8",
    ("float8", 8): "float8",
}


def require_formats(formats: Iterable[Format], gpus: Iterable[Gpu]) -> None:
    """Raises `OptionError` where a GPU lacks the type that a format stores weights in.

    Args:
        formats: What weights are to be stored in.
        gpus: What engines are built for.
    """
    gpus = tuple(gpus)
    for form in formats:
        types = [each for key, each in _TYPES.items() if key == (form.kind, form.bits)]
        for gpu in gpus:
            require_types(types, gpu.capability, f"The format {form.name}")
