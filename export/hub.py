"""Pipelines from the Hugging Face Hub: only the files that an export reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download

from ..core.errors import CheckpointError
from ..core.hub import download_errors, is_repository_id
from ..core.manifest import CARD_NAME
from ..core.weight_files import PICKLES, SAFETENSORS, weight_file_names

# Configs, tokenizers and the card, but none of what only diffusers' safety checker needs.
_CONFIGS = ("*.json", "*/merges.txt", "*/vocab.txt", CARD_NAME)
_IGNORED = ("safety_checker/*", "feature_extractor/*")
_SUFFIXES = (SAFETENSORS, *PICKLES)


@dataclass(frozen=True)
class HubOptions:
    """How the Hub is asked: commit or branch, access token, and whether only the cache is used."""

    revision: str | None = None
    token: str | None = None
    offline: bool = False


def download(
    repository: str,
    revision: str | None,
    token: str | None,
    offline: bool,
    variant: str | None = None,
    without: Collection[str] = (),
) -> tuple[Path, str | None]:
    """Brings a repository into the Hub's cache: configs, tokenizers and one set of weights.

    Components that have no weights of the variant come with their plain ones, and those that have
    no safetensors with their pickles.

    Args:
        repository: `owner/name`.
        revision: Branch, tag or commit; None takes the default branch.
        token: Access token, or None for the one that is logged in.
        offline: Use only what the cache holds.
        variant: Variant of the weight files, such as `fp16`, or None.
        without: Components whose weights are not needed.

    Returns:
        The snapshot's folder and its commit.

    Raises:
        CheckpointError: The id is malformed, the repository or revision does not exist, access
            is refused, or the Hub cannot be reached and the cache does not hold it.
        DiskSpaceError: The disk filled up.
    """
    ignored = (*_IGNORED, *(f"{name}/*{suffix}" for name in without for suffix in _SUFFIXES))
    preferred, *others = _weight_patterns(variant)
    # At the root lie the weights of a VAE or U-Net that is no pipeline.
    alone = (name for name in preferred if name.startswith("diffusion_"))
    patterns = [*_CONFIGS, *alone, *(f"*/{name}" for name in preferred)]
    folder = _snapshot(repository, revision, token, offline, patterns, ignored)
    # A snapshot's folder is named after its commit, which a branch may leave at any time.
    commit = folder.name
    for names in others:
        lacking = [name for name in _lacking(folder) if name not in without]
        if lacking and not offline:
            patterns = [f"{where}/{name}".removeprefix("./") for where in lacking for name in names]
            _snapshot(repository, commit, token, offline, patterns, ignored)
    return folder, commit


def download_configs(
    repository: str, revision: str | None, token: str | None, offline: bool
) -> tuple[Path, str | None]:
    """Brings a repository without weights into the Hub's cache; see `download`."""
    folder = _snapshot(repository, revision, token, offline, _CONFIGS, _IGNORED)
    return folder, folder.name


def download_files(
    repository: str,
    revision: str | None,
    token: str | None,
    offline: bool,
    patterns: Collection[str],
) -> tuple[Path, str | None]:
    """Brings the files of a repository that fit `patterns` into the Hub's cache; see `download`."""
    folder = _snapshot(repository, revision, token, offline, patterns, ())
    return folder, folder.name


def _weight_patterns(variant: str | None) -> list[list[str]]:
    """File names of sets of weights, the preferred set first, with patterns for shards."""
    sets: list[list[str]] = []
    for each in dict.fromkeys((variant, None)):
        names = [weight_file_names(library, each) for library in ("diffusers", "transformers")]
        # Each library prefers safetensors to pickles.
        for files in zip(*names, strict=True):
            sets.append([pattern for name, _ in files for pattern in (name, _shards(name))])
    # Safetensors of either kind before any pickle.
    return sorted(sets, key=lambda patterns: not patterns[0].endswith(SAFETENSORS))


def _shards(name: str) -> str:
    stem, suffix = name.rsplit(".", 1)
    return f"{stem}-?????-of-?????.{suffix}"


def _lacking(folder: Path) -> list[str]:
    """Components of a snapshot, `.` for its root, that have a config but no weights."""
    return [
        path.parent.relative_to(folder).as_posix()
        for path in sorted([*folder.glob("config.json"), *folder.glob("*/config.json")])
        if not any(each.suffix in _SUFFIXES for each in path.parent.iterdir())
    ]


def _snapshot(
    repository: str,
    revision: str | None,
    token: str | None,
    offline: bool,
    patterns: Iterable[str],
    ignored: Iterable[str],
) -> Path:
    """Downloads what fits `patterns`; raises `CheckpointError` saying why it could not."""
    if not is_repository_id(repository):
        raise CheckpointError(
            f"'{repository}' is neither a folder nor a Hub id (owner/name) nor zoo:NAME; "
            "`kdexport models` lists the known ones."
        )
    instead = "name a folder that holds the pipeline"
    with download_errors(CheckpointError, repository, revision, offline, instead):
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                token=token,
                local_files_only=offline,
                allow_patterns=list(patterns),
                ignore_patterns=list(ignored),
            )
        )
