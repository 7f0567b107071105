"""Reads fields of protobuf messages, such as ONNX files, without a package.

https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# What a damaged message makes `fields` raise.
DAMAGED = (IndexError, KeyError, TypeError)

# Bytes of the wire types that have a fixed size.
_FIXED = {1: 8, 5: 4}


def fields(message: memoryview, wanted: int) -> Iterator[Any]:
    """The values of a field of a message, by its number: numbers, or slices of the message.

    Values of a fixed size are given as None. Raises one of `DAMAGED` where this is no message.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value: Any = None
        if key & 7 == 0:
            value, at = _varint(message, at)
        elif key & 7 == 2:
            size, at = _varint(message, at)
            value = message[at : at + size]
            at += size
        else:
            at += _FIXED[key & 7]
        if key >> 3 == wanted:
            yield value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits per byte, lowest first, and where the next thing begins."""
    value = shift = 0
    while message[at] & 0x80:
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1
