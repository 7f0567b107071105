"""The pages of the documentation, read: what their fenced blocks ask the reader to run."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FRONT = "README.md"
PAGES = (FRONT, *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md")))

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$", re.M | re.S
)
# What a line of a block begins with, and what kind of line it then is.
_KINDS = (
    ("kdexport ", "kdexport"),
    ("./scripts/", "script"),
    ("scripts/", "script"),
    ("python scripts/", "script"),
    ("pip install ", "pip"),
)


@dataclass(frozen=True)
class Line:
    """One thing to run.

    Attributes:
        page: Where it stands, relative to the repository.
        kind: `kdexport`, `script`, `pip` or `python`, which is a whole block.
        text: It, without its comment and on one line; of Python the block.
    """

    page: str
    kind: str
    text: str

    @property
    def words(self):
        return shlex.split(self.text)


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page):
    """The fenced blocks of a page: (language, text)."""
    return [(found["language"], found["body"]) for found in _FENCE.finditer(text_of(page))]


def lines(page):
    """What a page asks to run, in its order."""
    found = []
    for language, body in blocks(page):
        if language == "python":
            found.append(Line(page, "python", body))
            continue
        for text in body.replace("\\\n", " ").splitlines():
            kind = next((kind for start, kind in _KINDS if text.startswith(start)), None)
            if kind:
                # `shlex` knows which `#` begins a comment.
                words = shlex.split(text, comments=True)
                found.append(Line(page, kind, shlex.join(words)))
    return found


def same(text):
    """A command as it is compared: however its words are quoted."""
    return shlex.join(shlex.split(text))
