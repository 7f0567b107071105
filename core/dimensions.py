"""Sizes of ports: a number, a named dimension, or a multiple or a fraction of one.

optimum evaluates the sizes of outputs, so they are written as Python: `8 * height`, `height // 8`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


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


def is_computed(shape: Sequence[int | str]) -> bool:
    """Whether a size of a shape is computed with a dimension."""
    return any(isinstance(size, str) and not size.isidentifier() for size in shape)


def fits(found: Sequence[int], shape: Sequence[int | str], values: dict[str, int]) -> bool:
    """Whether the shape of an array is the one of a port.

    Args:
        found: The array's.
        shape: The port's.
        values: Value of each dimension that is known, by name; those that this shape names are
            added.

    Raises:
        ValueError: A size of the port is not one that `scaled` writes.
    """
    if len(found) != len(shape):
        return False
    for size, wanted in zip(found, shape, strict=True):
        if isinstance(wanted, str) and wanted.isidentifier():
            values.setdefault(wanted, size)
        if evaluate(wanted, values) != size:
            return False
    return True
