"""Messages of other libraries in one sentence of ours."""

from __future__ import annotations

import pytest
from kdexport.core.errors import first_line


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("one\ntwo", "one"),
        ("\n  It failed:\n    because\n", "It failed"),
        ("It failed.", "It failed"),
        ("", "ValueError"),
        (" \n ", "ValueError"),
        ("x" * 999, "x" * 300),
    ],
)
def test_the_first_line(message, line):
    assert first_line(ValueError(message)) == line
