"""Configs that do not describe their weights: the teacher's over a student, or nulls left out.

Training scripts that remove blocks from a U-Net often save the teacher's config (Segmind's
distill-sd does), and tools that leave nulls out turn "no mid block" into the default one. diffusers
then refuses the weights, or loads them and leaves the rest random. The names and shapes of the
weights say which blocks there are, so the config can be mended, but for what shapes do not show:
the number of attention heads.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from ..core.checkpoint import ComponentSource
from ..core.errors import CheckpointWarning, WeightsError
from ..core.weight_files import find_weight_files
from .structure import (
    DOWN_TYPES,
    MID_TYPES,
    UP_TYPES,
    Structure,
    described_structure,
    full_config,
    per_stage,
    stored_structure,
)
from .weights import stored_tensors

# Settings that may be lists with one value per stage, and that the shapes of weights do not show.
_PER_STAGE = ("attention_head_dim", "only_cross_attention", "cross_attention_dim")


def repair_unet(source: ComponentSource) -> ComponentSource:
    """Mends the config of a U-Net whose weights have other blocks than it describes.

    Only block structure is mended: stages, layers, mid block, transformer depth. Anything else that
    does not fit is left to `open_weights`, which refuses it.

    Args:
        source: The U-Net.

    Returns:
        The source as it is where its config fits, where it has no weights, or where config or
        weights are foreign; else one with the mended config, after a `CheckpointWarning`.

    Raises:
        WeightsError: The weights have other blocks, and more than one config or none describes
            them; or see `stored_tensors`.
    """
    if not find_weight_files(source):
        return source
    shapes = {name: tensor.shape for name, tensor in stored_tensors(source).items()}
    config, stored = full_config(source.config), stored_structure(shapes)
    described = described_structure(config)
    if stored is None or described is None or stored == described:
        return source
    difference = _difference(described, stored)
    try:
        repaired = _implied(config, stored)
    except _AmbiguousError as error:
        raise WeightsError(
            f"The weights in '{_place(source)}' have other blocks than their config describes "
            f"({difference}), and {error}; use the config.json that belongs to these weights."
        ) from error
    settings = ", ".join(f"{key} = {json.dumps(value)}" for key, value in repaired.items())
    warnings.warn(
        f"The config of '{_place(source)}' does not describe its weights ({difference}); it was "
        f"read with {settings}.",
        CheckpointWarning,
        stacklevel=2,
    )
    return replace(source, config={**source.config, **repaired}, repaired=repaired)


class _AmbiguousError(Exception):
    """Why no single config describes the weights, as the end of a sentence."""


def _implied(config: Mapping[str, Any], stored: Structure) -> dict[str, Any]:
    """The settings that must change so that the config describes the stored blocks."""
    if len(stored.down) != len(stored.up):
        raise _AmbiguousError("its encoder and decoder have different numbers of stages")
    settings = _kept_stages(config, stored)
    layers = [block.resnets for block in stored.down]
    settings["layers_per_block"] = layers[0] if len(set(layers)) == 1 else layers
    settings["down_block_types"] = _types(DOWN_TYPES, [bool(b.depths) for b in stored.down])
    settings["up_block_types"] = _types(UP_TYPES, [bool(b.depths) for b in stored.up])
    attentive = None if stored.mid is None else bool(stored.mid.depths)
    settings["mid_block_type"] = _types(MID_TYPES, [attentive])[0]
    if described_structure({**config, **settings}) != stored:
        settings |= _depths(config, settings, stored)
    if described_structure({**config, **settings}) != stored:
        raise _AmbiguousError("no config of a UNet2DConditionModel describes those")
    return {key: value for key, value in settings.items() if not _same(value, config[key])}


def _kept_stages(config: Mapping[str, Any], stored: Structure) -> dict[str, Any]:
    """The settings by stage, without the stages that are gone."""
    described = list(config["block_out_channels"])
    channels = [block.channels for block in stored.down]
    kept = [
        stages
        for stages in combinations(range(len(described)), len(channels))
        if [described[stage] for stage in stages] == channels
    ]
    if not kept:
        raise _AmbiguousError("the attention heads of other channels cannot be known")
    settings: dict[str, Any] = {"block_out_channels": channels}
    for key in _PER_STAGE:
        if isinstance(config[key], list | tuple):
            if len(config[key]) != len(described):
                raise _AmbiguousError(f"its {key} is for another number of stages")
            readings = {tuple(config[key][stage] for stage in stages) for stages in kept}
            if len(readings) > 1:
                raise _AmbiguousError(
                    f"it cannot be known which stage is gone, and so which {key} remains"
                )
            settings[key] = list(readings.pop())
    return settings


def _types(types: Mapping[Any, bool | None], attentive: Sequence[bool | None]) -> list[Any]:
    names = {has: name for name, has in types.items()}
    return [names[each] for each in attentive]


def _depths(
    config: Mapping[str, Any], settings: Mapping[str, Any], stored: Structure
) -> dict[str, Any]:
    """Transformer layers: one number per stage where that suffices, else one per attention."""
    before = per_stage(config["transformer_layers_per_block"], len(config["block_out_channels"]))
    # A stage without attention has a number all the same; which one does not matter.
    unused = [each if isinstance(each, int) else 1 for each in before]
    down = [block.depths for block in stored.down]
    up = [block.depths for block in stored.up]
    down[-1] = down[-1] or (stored.mid.depths if stored.mid else ())
    uniform = [{*here, *there} for here, there in zip(down, reversed(up), strict=True)]
    if all(len(each) <= 1 for each in uniform):
        depths = [next(iter(each), unused[i]) for i, each in enumerate(uniform)]
        simple = {
            "transformer_layers_per_block": depths,
            "reverse_transformer_layers_per_block": None,
        }
        if described_structure({**config, **settings, **simple}) == stored:
            return simple
    last = len(up) - 1
    return {
        "transformer_layers_per_block": [list(each) or unused[i] for i, each in enumerate(down)],
        "reverse_transformer_layers_per_block": [
            list(each) or unused[last - i] for i, each in enumerate(up)
        ],
    }


def _same(one: Any, other: Any) -> bool:
    """Whether two settings are equal, lists and tuples being the same."""
    return bool(json.dumps(one) == json.dumps(other))


def _difference(described: Structure, stored: Structure) -> str:
    ours, theirs = stored.facts(), described.facts()
    changed = [
        f"{what} {json.dumps(ours[what])} instead of {json.dumps(theirs[what])}"
        for what in ours
        if ours[what] != theirs[what]
    ]
    return "; ".join(changed)


def _place(source: ComponentSource) -> str:
    return str(source.file or source.folder)
