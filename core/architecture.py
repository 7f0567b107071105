"""What tells two models of the same architecture from two of different ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence


def architecture_digest(shapes: Mapping[str, Sequence[int]]) -> str:
    """SHA-256 of the names and shapes of a component's weights, whatever order they come in.

    Args:
        shapes: Shape of each weight, by name.

    Returns:
        Lower-case hexadecimal digits.
    """
    lines = (f"{name} {'x'.join(str(int(n)) for n in shapes[name])}\n" for name in sorted(shapes))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
