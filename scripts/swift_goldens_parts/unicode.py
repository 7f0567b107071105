"""What the `tokenizers` library knows of every scalar of Unicode."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from tokenizers import Regex
from tokenizers.normalizers import NFC, Lowercase, Normalizer, Replace

from .files import write_json

# The classes of CLIP's pattern, and the letter that stands for each below; all else is `O`.
_CLASSES = ((r"\p{L}", "L"), (r"\p{N}", "N"), (r"\s", "S"))


def scalars() -> Iterator[str]:
    """All of them, in order."""
    surrogates = range(0xD800, 0xE000)
    return (chr(code) for code in range(sys.maxunicode + 1) if code not in surrogates)


def write_unicode(out: Path) -> int:
    """Writes `unicode.json`; returns the number of scalars."""
    matchers = [(Replace(Regex(pattern), ""), letter) for pattern, letter in _CLASSES]
    kinds = [(ord(each), _kind(each, matchers)) for each in scalars()]
    runs = [list(run) for _, run in groupby(kinds, key=lambda pair: pair[1])]
    data = {
        "kinds": [[run[0][0], run[-1][0], run[0][1]] for run in runs],
        "lower": _changed(Lowercase()),
        "composed": _changed(NFC()),
    }
    write_json(out / "unicode.json", data)
    return len(kinds)


def _kind(scalar: str, matchers: list[tuple[Replace, str]]) -> str:
    for matcher, letter in matchers:
        if not matcher.normalize_str(scalar):
            return letter
    return "O"


def _changed(normalizer: Normalizer) -> list[list[int]]:
    """Of each scalar that becomes another text: itself, then that text."""
    pairs = ((each, normalizer.normalize_str(each)) for each in scalars())
    return [[ord(each), *map(ord, text)] for each, text in pairs if text != each]
