"""Text that somebody else wrote, as Markdown and YAML that show it and nothing else."""

from __future__ import annotations

import json
import re

# What Markdown, or GitHub's, takes for markup inside a line; it makes links of bare addresses, too.
_MARKUP = re.compile(r"([\\`*_\[\]<>|~&$@]|(?<=www)\.|:(?=//))")
_SPACE = re.compile(r"\s+")


def plain(text: str) -> str:
    """Text in a line of Markdown or a cell of a table, nothing of it markup."""
    return _MARKUP.sub(r"\\\1", _SPACE.sub(" ", text).strip())


def code(text: str) -> str:
    """Text as inline code, whatever backticks are in it; also in a cell of a table."""
    line = _SPACE.sub(" ", text).strip()
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    # A cell ends at a bar even in code.
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|")


def scalar(text: str) -> str:
    """Text as a YAML scalar in double quotes, which JSON's strings are."""
    return json.dumps(text)
