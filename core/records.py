"""Frozen dataclasses from and to plain JSON values."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def encode(value: Any) -> Any:
    """A dataclass, tuple, list, mapping or path as JSON values; scalars pass."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def decode(kind: type[T], data: Mapping[str, Any]) -> T:
    """Builds the dataclass `kind` from what `encode` made of it; the schema was checked before."""
    hints = typing.get_type_hints(kind)
    fields = (field.name for field in dataclasses.fields(typing.cast(Any, kind)))
    return kind(**{name: _decode(hints[name], data[name]) for name in fields if name in data})


def _decode(hint: Any, value: Any) -> Any:
    if value is None or hint is Any:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return _decode(inner[0], value) if len(inner) == 1 else value
    if origin is tuple:
        return tuple(_decode(arguments[0], item) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        return {key: _decode(arguments[1], item) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(Any, hint), value)
    return hint(value) if hint in (float, Path) else value
