"""What the rooms that talk to the Hugging Face Hub share: names of repositories."""

from __future__ import annotations

import re

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


def is_repository_id(name: str) -> bool:
    """Whether `name` has the form of a Hub id, `owner/name`."""
    return _REPOSITORY.fullmatch(name) is not None
