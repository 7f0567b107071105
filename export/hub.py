"""Pipelines from the Hugging Face Hub: only the files that an export reads."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import errors, snapshot_download

from ..core.errors import CheckpointError

_REPOSITORY = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")

# Configs, tokenizers and plain safetensors; no pickles, no variants, no single-file checkpoints.
_ALLOWED = [
    "*.json",
    "*/merges.txt",
    "*/vocab.txt",
    "diffusion_pytorch_model*.safetensors",
    "*/diffusion_pytorch_model.safetensors",
    "*/diffusion_pytorch_model-?????-of-?????.safetensors",
    "*/model.safetensors",
    "*/model-?????-of-?????.safetensors",
]
_IGNORED = ["safety_checker/*", "feature_extractor/*", "*.fp16.*", "*.non_ema.*"]


def download(
    repository: str, revision: str | None, token: str | None, offline: bool
) -> tuple[Path, str | None]:
    """Brings a repository into the Hub's cache.

    Args:
        repository: `owner/name`.
        revision: Branch, tag or commit; None takes the default branch.
        token: Access token, or None for the one that is logged in.
        offline: Use only what the cache holds.

    Returns:
        The snapshot's folder and its commit.

    Raises:
        CheckpointError: The id is malformed, the repository or revision does not exist, access
            is refused, or the Hub cannot be reached and the cache does not hold it.
    """
    if not _REPOSITORY.match(repository):
        raise CheckpointError(
            f"'{repository}' is neither a folder nor a Hub id (owner/name) nor zoo:NAME; "
            "`kdexport models` lists the known ones."
        )
    try:
        folder = Path(
            snapshot_download(
                repository,
                revision=revision,
                token=token,
                local_files_only=offline,
                allow_patterns=_ALLOWED,
                ignore_patterns=_IGNORED,
            )
        )
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"'{repository}' is gated: accept its licence on the Hub and pass --token."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"'{repository}' has no revision '{revision}'.") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"There is no '{repository}' on the Hub, or it is private; check the id or pass "
            "--token."
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        reason = "is not in the local cache" if offline else "cannot be downloaded (no network)"
        raise CheckpointError(
            f"'{repository}' {reason}; connect to the network once, or name a folder that holds "
            "the pipeline."
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"The Hub did not deliver '{repository}' ({type(error).__name__}); try again or name "
            "a folder that holds the pipeline."
        ) from error
    # A snapshot's folder is named after its commit.
    return folder, folder.name
