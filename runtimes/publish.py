"""A bundle to a repository of the Hugging Face Hub, in one commit.

The real Hub was never reached by those who wrote this: the tests run against a server of their own,
which speaks what `huggingface_hub` speaks with `HF_HUB_DISABLE_XET=1`. Uploads through Xet, which
the library takes where the package hf_xet is there, go through the same calls and were never made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..core.errors import BundleError, HubError, OptionError
from ..core.hub import is_repository_id, public_name, upload_errors
from ..core.manifest import (
    CARD_NAME,
    CARD_PLACEHOLDER,
    MANIFEST_NAME,
    PARITY_NAME,
    REPORT_NAME,
    Manifest,
    check_files,
    load_manifest,
)
from .hub import hub_library

# What lies in a bundle beside the files that its manifest names.
_BESIDE = (MANIFEST_NAME, PARITY_NAME, REPORT_NAME, CARD_NAME)
_LONGEST_NAME = 96


@dataclass(frozen=True)
class PushOptions:
    """What is published where.

    Attributes:
        repository: `owner/name`.
        private: Whether only its owner may see it.
        revision: The branch to commit to, made where it is missing; None takes the default one.
        unverified: Also a bundle that was never compared with diffusers, or failed.
        random_weights: Also a bundle whose weights are made up.
    """

    repository: str
    private: bool = False
    revision: str | None = None
    unverified: bool = False
    random_weights: bool = False

    def __post_init__(self) -> None:
        name = self.repository
        fits = is_repository_id(name) and len(name) <= _LONGEST_NAME
        if not fits or any(each in name for each in ("--", "..")) or name.endswith((".", "-")):
            raise OptionError(
                f"'{name}' is no name of a repository; give owner/name, of letters, digits, '-', "
                f"'_' and '.', at most {_LONGEST_NAME} characters, no two '-' or '.' in a row, "
                "neither at an end."
            )
        if self.revision is not None and not self.revision.strip():
            raise OptionError("The revision is empty; name a branch, or leave it out.")


@dataclass(frozen=True)
class Push:
    """A bundle that may be published, and how.

    Attributes:
        bundle: The bundle.
        options: What is published where.
        files: Size of each file by its path, the largest first.
        message: Of the commit.
    """

    bundle: Path
    options: PushOptions
    files: dict[str, int]
    message: str


@dataclass(frozen=True)
class Pushed:
    """Where a bundle is now."""

    url: str
    commit: str


def prepare_push(bundle: Path, options: PushOptions) -> Push:
    """Checks that a bundle may be published; nothing is sent.

    Raises:
        BundleError: No bundle, a changed or missing file, one that was not verified or failed, or
            whose weights are made up, where the options do not allow that.
    """
    manifest = load_manifest(bundle)
    _require_worth(bundle, manifest, options)
    check_files(manifest, bundle)
    names = [record.path for record in manifest.files]
    names += [name for name in _BESIDE if (bundle / name).is_file()]
    sizes = {name: (bundle / name).stat().st_size for name in names}
    if CARD_NAME in sizes:
        sizes[CARD_NAME] = len(_card(bundle, options.repository))
    message = (
        f"Upload {public_name(manifest.source.model)} as {manifest.backend}, made by kdexport "
        f"{manifest.tools.get('kdexport', __version__)}"
    )
    ordered = dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))
    return Push(bundle, options, ordered, message)


def push_bundle(push: Push, *, token: str | None = None, quiet: bool = False) -> Pushed:
    """Makes the repository where it is missing, and commits the files; those it has stay.

    Files of an earlier bundle that this one lacks are left there, and no manifest names them.

    Args:
        push: What is sent, see `prepare_push`.
        token: Access token of the Hub, or None for the one that is logged in.
        quiet: Show no progress.

    Raises:
        HubError: Not logged in, not allowed, no network, or the Hub does not take it; or the
            repository is there and is public where it should be private.
        DependencyError: huggingface_hub is not installed.
    """
    hub, options = hub_library(), push.options
    api = hub.HfApi(token=token, library_name="kdexport", library_version=__version__)
    name, branch = options.repository, options.revision
    with upload_errors(HubError, name), _bars(quiet):
        # None leaves it to what the owner has set.
        private = True if options.private else None
        url = api.create_repo(name, private=private, exist_ok=True)
        if options.private and not api.model_info(name).private:
            raise HubError(
                f"'{name}' is there already and is public, so nothing was sent; make it private on "
                "the Hub, choose another name, or leave out --private."
            )
        if branch is not None:
            api.create_branch(name, branch=branch, exist_ok=True)
        operations = [
            hub.CommitOperationAdd(path, _source(push.bundle, path, name)) for path in push.files
        ]
        done = api.create_commit(name, operations, commit_message=push.message, revision=branch)
    address = str(url) if branch is None else f"{url}/tree/{branch}"
    return Pushed(address, str(done.oid))


def _require_worth(bundle: Path, manifest: Manifest, options: PushOptions) -> None:
    """Raises `BundleError` where others should not have a bundle."""
    if manifest.source.random_weights and not options.random_weights:
        raise BundleError(
            f"The weights of '{bundle}' are random, so its pictures mean nothing; pass "
            "--random-weights to publish it all the same."
        )
    if options.unverified:
        return
    if manifest.parity is None:
        raise BundleError(
            f"'{bundle}' was never compared with diffusers; run kdexport verify {bundle}, or pass "
            "--unverified."
        )
    if not manifest.parity["passed"]:
        raise BundleError(
            f"'{bundle}' does not draw what its reference draws (see {REPORT_NAME}); export it "
            "again, or pass --unverified."
        )


def _source(bundle: Path, name: str, repository: str) -> str | bytes:
    """What the library uploads as a file: the path of it, or its content."""
    return _card(bundle, repository) if name == CARD_NAME else str(bundle / name)


def _card(bundle: Path, repository: str) -> bytes:
    """The model card, whose commands name the repository."""
    # In bytes, for a card that its owner has edited may be in any encoding.
    return (bundle / CARD_NAME).read_bytes().replace(CARD_PLACEHOLDER.encode(), repository.encode())


@contextmanager
def _bars(quiet: bool) -> Iterator[None]:
    """Keeps the library's bars off standard error in the block, where `quiet`."""
    from huggingface_hub import utils

    shown = quiet and not utils.are_progress_bars_disabled()
    if shown:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            utils.enable_progress_bars()
