"""Bundles from the Hugging Face Hub: found by their id, kept as plain files.

The Hub's cache holds links into a folder of blobs, which OpenVINO does not find weights through and
which nothing may be written beside. So a bundle is laid out once more, below kdexport's own cache,
as hard links where both caches lie on one volume, else as copies.
"""

from __future__ import annotations

from glob import escape
from pathlib import Path
from typing import Any

from ..core.errors import BundleError, DependencyError, OptionError
from ..core.folder import downloads_cache, link_or_copy, user_cache, whole_folder
from ..core.hub import download_errors, is_repository_id
from ..core.manifest import MANIFEST_NAME, PARITY_NAME, Manifest, load_manifest

_INSTEAD = "name a folder that holds the bundle"


def is_on_hub(bundle: Path | str) -> bool:
    """Whether a bundle is named by its Hub id: a string `owner/name`, and nothing here is there."""
    return isinstance(bundle, str) and is_repository_id(bundle) and not Path(bundle).exists()


def find_bundle(
    bundle: Path | str,
    *,
    revision: str | None = None,
    token: str | None = None,
    offline: bool = False,
) -> Path:
    """The folder of a bundle, which is downloaded where a repository of the Hub is named.

    Args:
        bundle: A folder, which goes first, or the id of a repository, `owner/name`; a `Path` is
            always a folder.
        revision: Branch, tag or commit of the repository; None takes the default branch.
        token: Access token of the Hub, or None for the one that is logged in.
        offline: Use only what the Hub's cache holds.

    Returns:
        The folder; whether it holds a bundle is for `load_manifest` to say. That of a repository
        has the repository's name, lies in kdexport's cache, and is not to be written to.

    Raises:
        OptionError: A revision of a folder.
        BundleError: The repository is missing, private or no bundle, or cannot be reached and is
            not in the cache.
        DependencyError: huggingface_hub is not installed.
    """
    if not is_on_hub(bundle):
        if revision is not None:
            raise OptionError(
                f"'{bundle}' is no repository of the Hub, so it has no revision '{revision}'; "
                "leave the revision out."
            )
        return Path(bundle)
    repository = str(bundle)
    snapshot = fetch_manifest(repository, revision=revision, token=token, offline=offline)
    if snapshot is None:
        raise BundleError(
            f"'{repository}' on the Hub is no bundle: it has no {MANIFEST_NAME}; where it is a "
            f"model, export it first: kdexport onnx {repository} -o DIR."
        )
    manifest = load_manifest(snapshot)
    target = downloads_cache() / repository.replace("/", "--") / snapshot.name
    folder = target / repository.split("/")[1]
    if not _is_laid_out(folder):
        _download(repository, snapshot, manifest, token, offline)
        # Another process may have done so meanwhile, and draw from there.
        if not _is_laid_out(folder):
            _lay_out(repository, snapshot, manifest, folder)
    return folder


def fetch_manifest(
    repository: str, *, revision: str | None = None, token: str | None = None, offline: bool = False
) -> Path | None:
    """Brings the manifest of a repository into the Hub's cache, and nothing else.

    Args:
        repository: `owner/name`.
        revision: Branch, tag or commit; None takes the default branch.
        token: Access token of the Hub, or None for the one that is logged in.
        offline: Use only what the Hub's cache holds.

    Returns:
        The folder of the commit in the Hub's cache; None where the repository has no manifest.

    Raises:
        BundleError: The repository is missing or private, or cannot be reached and its manifest is
            not in the cache.
        DependencyError: huggingface_hub is not installed.
    """
    hub = hub_library()
    with download_errors(BundleError, repository, revision, offline, _INSTEAD):
        try:
            file = hub.hf_hub_download(
                repository,
                MANIFEST_NAME,
                revision=revision,
                token=token,
                local_files_only=offline,
            )
        except hub.errors.LocalEntryNotFoundError:
            # It is an `EntryNotFoundError`, too, but says nothing about the repository.
            raise
        except hub.errors.EntryNotFoundError:
            return None
    return Path(file).parent


def _download(
    repository: str, snapshot: Path, manifest: Manifest, token: str | None, offline: bool
) -> None:
    """Brings the files that a manifest names into the Hub's cache."""
    # fnmatch's patterns, which escape as those of glob do.
    names = [escape(record.path) for record in manifest.files]
    commit = snapshot.name
    with download_errors(BundleError, repository, commit, offline, _INSTEAD):
        hub_library().snapshot_download(
            repository,
            revision=commit,
            token=token,
            local_files_only=offline,
            allow_patterns=[MANIFEST_NAME, PARITY_NAME, *names],
        )


def _is_laid_out(folder: Path) -> bool:
    """Whether a folder is there; what is there is whole, and of one commit."""
    return (folder / MANIFEST_NAME).is_file()


def _lay_out(repository: str, snapshot: Path, manifest: Manifest, folder: Path) -> None:
    """Makes the folder of plain files, or takes that of another process which was first."""
    names = [record.path for record in manifest.files]
    missing = [name for name in names if not (snapshot / name).is_file()]
    if missing:
        raise BundleError(
            f"'{repository}' lacks '{missing[0]}', here or on the Hub; connect to the network and "
            "try again, or push the bundle again."
        )
    needed = sum(record.bytes for record in manifest.files)
    cache = user_cache()
    shared = cache.exists() and cache.stat().st_dev == snapshot.stat().st_dev
    space = 0 if shared else needed
    try:
        # What is there has no manifest: somebody deleted a part of it.
        with whole_folder(folder, needed_bytes=space, overwrite=folder.exists()) as staging:
            for name in (MANIFEST_NAME, PARITY_NAME, *names):
                # A bundle that was never verified has no parity record.
                if (snapshot / name).is_file():
                    (staging / name).parent.mkdir(parents=True, exist_ok=True)
                    link_or_copy((snapshot / name).resolve(), staging / name)
    except (OSError, BundleError):
        if not _is_laid_out(folder):
            raise


def hub_library() -> Any:
    """The package `huggingface_hub` with its errors; raises `DependencyError` where it is none."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise DependencyError(
            "Bundles of the Hub need the package 'huggingface_hub'; run pip install "
            "huggingface_hub, or name a folder."
        ) from error
    return huggingface_hub
