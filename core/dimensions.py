"""Sizes of ports: a number, a named dimension, or a multiple or a fraction of one.

optimum evaluates the sizes of outputs, so they are written as Python: `8 * height`, `height // 8`.
"""

from __future__ import annotations

from collections.abc import Mapping


def scaled(name: str, multiple: int = 1, divisor: int = 1) -> str:
    """The size that is `multiple` times, or one `divisor`-th of, the dimension `name`."""
    if multiple > 1:
        return f"{multiple} * {name}"
    return f"{name} // {divisor}" if divisor > 1 else name


def split_size(size: str) -> tuple[str, int, int]:
    """Name, factor and divisor of a size that `scaled` wrote.

    Raises:
        ValueError: It is none.
    """
    match size.split():
        case [name]:
            return name, 1, 1
        case [factor, "*", name]:
            return name, int(factor), 1
        case [name, "//", divisor]:
            return name, 1, int(divisor)
    raise ValueError(f"'{size}' is no size of a port")


def evaluate(size: int | str, values: Mapping[str, int]) -> int | str:
    """The size as a number where its dimension has a value, else the size itself.

    Args:
        size: A size of a port.
        values: Value of each dimension that is known, by name.

    Raises:
        ValueError: The size is not one that `scaled` writes.
    """
    if isinstance(size, int):
        return size
    name, factor, divisor = split_size(size)
    return factor * values[name] // divisor if name in values else size
