"""What a model's card, the README.md of its folder, says to programs."""

from __future__ import annotations

from pathlib import Path

import yaml
from huggingface_hub import metadata_load

from ..core.errors import CheckpointError

CARD_NAME = "README.md"


def card_licence(folder: Path) -> str | None:
    """The licence that a folder's model card declares, or None where it says nothing.

    Cards declare it as `license` in the YAML at their top; one that the Hub has no name for is
    `other`, with its own name in `license_name`
    (https://huggingface.co/docs/hub/model-cards#specifying-a-license).

    Raises:
        CheckpointError: The YAML is damaged.
    """
    card = folder / CARD_NAME
    if not card.is_file():
        return None
    try:
        declared = metadata_load(card) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise CheckpointError(
            f"'{card}' begins with damaged YAML; mend it, or remove the card."
        ) from error
    licence = declared.get("license")
    if licence == "other":
        licence = declared.get("license_name", licence)
    return licence if isinstance(licence, str) else None
