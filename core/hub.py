"""What the rooms that talk to the Hugging Face Hub share: names, and what its errors mean.

Errors are told apart by the names of their classes: this room imports nothing of `huggingface_hub`,
whose classes also change their bases from version to version.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import DiskSpaceError, KdexportError, first_line

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)

# Packages whose errors are about the Hub or the way there.
_PACKAGES = ("huggingface_hub", "hf_xet", "httpx", "httpcore", "requests", "urllib3")

# Class of an error to what it means for a download; the first that fits.
_DOWNLOADS = {
    "GatedRepoError": "'{repository}' is gated: accept its licence on the Hub and pass --token.",
    "RevisionNotFoundError": "'{repository}' has no revision '{revision}'; name a branch, "
    "tag or commit that it has, or leave --revision out.",
    "RepositoryNotFoundError": "There is no '{repository}' on the Hub, or it is private; check "
    "the id, pass --token, or {instead}.",
    "LocalEntryNotFoundError": "'{repository}' {unreachable}; connect to the network once, or "
    "{instead}.",
}

# What the library raises where its own variables turn the network off, or raises others from.
_TURNED_OFF = "OfflineModeIsEnabled"
_OFFLINE_BY_VARIABLE = (
    "'{repository}' is not in the local cache, and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set, "
    "so the Hub is not asked; unset it once, or {instead}."
)

_DISK_FULL = (
    "The disk filled up while '{repository}' was downloaded; free some space where the Hub's cache "
    "lies, or name a folder on another disk in HF_HOME, and try again."
)

_NOT_DELIVERED = "The Hub did not deliver '{repository}' ({error}); try again or {instead}."

# HTTP status to what it means for an upload.
_UPLOADS = {
    401: "The Hub does not know who you are, or does not accept the token; log in with "
    "`hf auth login`, or pass --token.",
    403: "You may not write to '{repository}'; pass the --token of somebody who may, one that may "
    "write, or choose another name.",
    404: "There is no '{repository}' that you may write to, or it has no such revision; check the "
    "name, --revision and --token.",
    413: "The Hub refused '{repository}' as too large ({reason}).",
}
_NOT_TAKEN = "The Hub did not take '{repository}' ({reason}); try again."
_NOT_REACHED = "The Hub cannot be reached ({reason}); check the network and try again."


def is_repository_id(name: str) -> bool:
    """Whether `name` has the form of a Hub id, `owner/name`."""
    return _REPOSITORY.fullmatch(name) is not None


def public_name(model: str) -> str:
    """A model as the user named it; of a path the last part: the rest means nothing elsewhere."""
    if is_repository_id(model) or model.startswith("zoo:"):
        return model
    return re.split(r"[/\\]", model.rstrip("/\\"))[-1] or model


@contextmanager
def download_errors(
    kind: type[KdexportError],
    repository: str,
    revision: str | None,
    offline: bool,
    instead: str,
) -> Iterator[None]:
    """Turns what the Hub's library raises in the block into `kind`, in a sentence.

    Args:
        kind: The error to raise.
        repository: What is downloaded, `owner/name`.
        revision: Its branch, tag or commit, or None.
        offline: Whether only the cache is used.
        instead: What else there is to do, the end of a sentence.

    Raises:
        DiskSpaceError: The disk filled up, whatever `kind` is.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and not _of_the_hub(error):
            raise
        chain = list(_chain(error))
        if any(getattr(each, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for each in chain):
            raise DiskSpaceError(_DISK_FULL.format(repository=repository)) from error
        names = _class_names(error)
        known = [text for name, text in _DOWNLOADS.items() if name in names]
        if not offline and any(_TURNED_OFF in _class_names(each) for each in chain):
            known = [_OFFLINE_BY_VARIABLE]
        why = "is not in the local cache" if offline else "cannot be downloaded (no network)"
        text = (known or [_NOT_DELIVERED])[0].format(
            repository=repository,
            revision=revision,
            instead=instead,
            unreachable=why,
            error=first_line(error),
        )
        raise kind(text) from error


@contextmanager
def upload_errors(kind: type[KdexportError], repository: str) -> Iterator[None]:
    """Turns what the Hub's library raises in the block into `kind`; see `download_errors`."""
    try:
        yield
    except Exception as error:
        chain = list(_chain(error))
        if not any(map(_of_the_hub, chain)):
            raise
        status = next((code for code in map(_status, chain) if code is not None), None)
        text = _NOT_REACHED if status is None else _UPLOADS.get(status, _NOT_TAKEN)
        reason = first_line(chain[-1])
        raise kind(text.format(repository=repository, reason=reason)) from error


def _class_names(error: BaseException) -> set[str]:
    return {each.__name__ for each in type(error).__mro__}


def _of_the_hub(error: BaseException) -> bool:
    roots = {each.__module__.split(".")[0] for each in type(error).__mro__}
    # Some have a number at the end of their names.
    known = any(root.startswith(_PACKAGES) for root in roots)
    return known or isinstance(error, (ConnectionError, TimeoutError))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error is about."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    return code if isinstance(code, int) else None
