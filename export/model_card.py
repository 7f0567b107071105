"""What a model's card, the README.md of its folder, says to programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from huggingface_hub import metadata_load

from ..core.errors import CheckpointError
from ..core.manifest import CARD_NAME


def card_licence(folder: Path) -> str | None:
    """The licence that a folder's model card declares, or None where it says nothing.

    Cards declare it as `license` in the YAML at their top; one that the Hub has no name for is
    `other`, with its own name in `license_name`
    (https://huggingface.co/docs/hub/model-cards#specifying-a-license).

    Raises:
        CheckpointError: The YAML is damaged.
    """
    declared = _declared(folder)
    licence = declared.get("license")
    if licence == "other":
        licence = declared.get("license_name", licence)
    return licence if isinstance(licence, str) else None


def card_licence_link(folder: Path, model: str, revision: str | None) -> str | None:
    """Where a folder's model card says that its licence can be read, or None.

    Args:
        folder: The model's.
        model: What the user named it.
        revision: Its commit where it is a repository of the Hub, whose files are named by paths.

    Returns:
        An address, or None where the card gives none, or the path of a file that is not published.

    Raises:
        CheckpointError: The YAML is damaged.
    """
    link = _declared(folder).get("license_link")
    if not isinstance(link, str) or not link.strip():
        return None
    link = link.strip()
    if link.startswith(("https://", "http://")):
        return link
    if revision is None or ":" in link:
        return None
    return f"https://huggingface.co/{model}/blob/{revision}/{quote(link)}"


def _declared(folder: Path) -> Mapping[str, Any]:
    card = folder / CARD_NAME
    if not card.is_file():
        return {}
    try:
        return metadata_load(card) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise CheckpointError(
            f"'{card}' begins with damaged YAML; mend it, or remove the card."
        ) from error
