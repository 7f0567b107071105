"""How strongly an adapter acts, by the config that PEFT keeps: alpha, rank, and what they mean."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError

# Options of peft's LoraConfig that make something else of LoRA; none of them may be set.
_VARIANTS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "use_bdlora",
    "use_dora",
    "use_qalora",
)
# Ways to begin the training that leave the base weights as they are.
_STARTS = (None, True, False, "gaussian", "eva")

# peft's defaults of `r` and `lora_alpha`.
_DEFAULT = 8


def require_plain_lora(config: Mapping[str, Any], file: Path) -> None:
    """Raises `CheckpointError` where a config describes more than an added product.

    Args:
        config: What `adapter_config.json` or diffusers' metadata says.
        file: The adapter's file, for the message.
    """
    kind = config.get("peft_type", "LORA")
    if str(kind).upper() != "LORA":
        raise CheckpointError(
            f"The adapter '{file}' is of PEFT's kind {kind}, which kdexport cannot fuse; it fuses "
            "LoRA. Merge it with peft's merge_and_unload() and export the merged model."
        )
    found = [name for name in _VARIANTS if config.get(name)]
    start = config.get("init_lora_weights")
    # By identity: in Python 1 == True, and a config is JSON.
    if not any(start is each or (isinstance(each, str) and start == each) for each in _STARTS):
        found.append("init_lora_weights")
    if found:
        raise CheckpointError(
            f"The adapter '{file}' sets {found[0]} to {config[found[0]]!r}, which kdexport cannot "
            "fuse; merge it with peft's merge_and_unload() and export the merged model."
        )


def configured_scale(config: Mapping[str, Any], path: str, rank: int, file: Path) -> float:
    """The factor of one update, as `peft.tuners.lora.LoraLayer.update_layer` computes it.

    Args:
        config: What `adapter_config.json` or diffusers' metadata says.
        path: The updated module.
        rank: Rank of the tensors.
        file: The adapter's file, for the message.

    Raises:
        CheckpointError: The config gives the module another rank than its tensors have.
    """
    expected = _by_pattern(config.get("rank_pattern"), path, config.get("r", _DEFAULT))
    if expected != rank:
        raise CheckpointError(
            f"The config of the adapter '{file}' gives {path} the rank {expected}, its tensors "
            f"have {rank}; take both from the same training."
        )
    alpha = float(
        _by_pattern(config.get("alpha_pattern"), path, config.get("lora_alpha", _DEFAULT))
    )
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _by_pattern(patterns: Mapping[str, Any] | None, path: str, default: Any) -> Any:
    """The value of the first pattern that matches the end of a module's name."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", path):
            return value
    return default
