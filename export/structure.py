"""The block structure of a U-Net: as its config describes it, and as its weights have it."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import diffusers

# Block types of the Stable Diffusion family, and whether they have attention.
DOWN_TYPES = {"DownBlock2D": False, "CrossAttnDownBlock2D": True}
MID_TYPES = {None: None, "UNetMidBlock2D": False, "UNetMidBlock2DCrossAttn": True}
UP_TYPES = {"UpBlock2D": False, "CrossAttnUpBlock2D": True}

_PART = re.compile(
    r"(?P<block>down_blocks\.\d+|mid_block|up_blocks\.\d+)\."
    r"(?P<kind>resnets|attentions|downsamplers|upsamplers)\.(?P<index>\d+)\."
    r"(transformer_blocks\.(?P<depth>\d+)\.)?"
)


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        channels: Channels that it works with.
        resnets: Number of its ResNet layers.
        depths: Transformer layers of each of its attentions; empty where it has none.
        sampler: Whether it ends with a downsampler or upsampler.
    """

    channels: int
    resnets: int
    depths: tuple[int, ...]
    sampler: bool


@dataclass(frozen=True)
class Structure:
    """The blocks of a U-Net, in the order in which it runs them; `mid` may be missing."""

    down: tuple[Block, ...]
    mid: Block | None
    up: tuple[Block, ...]

    def facts(self) -> dict[str, Any]:
        """What a reader can compare, by what it is."""
        return {
            "channels by stage": [block.channels for block in self.down],
            "layers by stage": [block.resnets for block in self.down],
            "layers of the decoder by stage": [block.resnets for block in self.up],
            "transformer layers by stage": [list(block.depths) for block in self.down],
            "transformer layers of the decoder by stage": [list(block.depths) for block in self.up],
            "transformer layers of the mid block": list(self.mid.depths) if self.mid else "none",
            "stages with a sampler": sum(block.sampler for block in (*self.down, *self.up)),
        }


def full_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a U-Net, those included that the config leaves to the class."""
    parameters = inspect.signature(diffusers.UNet2DConditionModel.__init__).parameters
    defaults = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return {**defaults, **config}


def described_structure(config: Mapping[str, Any]) -> Structure | None:
    """The blocks that diffusers builds from a config.

    Args:
        config: As `full_config` gives it.

    Returns:
        The structure, or None where the config contradicts itself or has blocks of other types.
    """
    channels, mid_type = config["block_out_channels"], config["mid_block_type"]
    down_types, up_types = config["down_block_types"], config["up_block_types"]
    if not all(isinstance(each, list | tuple) for each in (channels, down_types, up_types)):
        return None
    stages = len(channels)
    layers = per_stage(config["layers_per_block"], stages)
    depths = per_stage(config["transformer_layers_per_block"], stages)
    reverse = config["reverse_transformer_layers_per_block"]
    up_depths = depths[::-1] if reverse is None else per_stage(reverse, stages)
    sizes = {len(each) for each in (down_types, up_types, layers, depths, up_depths)}
    known = {*down_types} <= {*DOWN_TYPES} and {*up_types} <= {*UP_TYPES}
    if sizes != {stages} or not known or mid_type not in tuple(MID_TYPES):
        return None
    last = stages - 1
    down = tuple(
        _described(channels[i], layers[i], DOWN_TYPES[down_types[i]], depths[i], i < last)
        for i in range(stages)
    )
    up = tuple(
        _described(
            channels[last - i], layers[last - i] + 1, UP_TYPES[up_types[i]], up_depths[i], i < last
        )
        for i in range(stages)
    )
    attentive = MID_TYPES[mid_type]
    if attentive is None:
        return Structure(down, None, up)
    mid_depths = _expanded(depths[last], 1) if attentive else ()
    return Structure(down, Block(channels[last], 2 if attentive else 1, mid_depths, False), up)


def stored_structure(shapes: Mapping[str, tuple[int, ...]]) -> Structure | None:
    """The blocks that a state dict has tensors for.

    Args:
        shapes: Shape of every tensor, by the names of `UNet2DConditionModel`.

    Returns:
        The structure, or None where the names are those of something else.
    """
    parts: dict[str, dict[str, dict[int, set[int]]]] = defaultdict(lambda: defaultdict(dict))
    for name in shapes:
        found = _PART.match(name)
        if found:
            depths = parts[found["block"]][found["kind"]].setdefault(int(found["index"]), set())
            if found["depth"]:
                depths.add(int(found["depth"]))
    try:
        blocks = {name: _stored(name, kinds, shapes) for name, kinds in parts.items()}
        down, up = (
            tuple(blocks[f"{side}_blocks.{i}"] for i in range(_count(blocks, f"{side}_blocks.")))
            for side in ("down", "up")
        )
    except KeyError:
        return None
    return Structure(down, blocks.get("mid_block"), up) if down and up else None


def per_stage(value: Any, stages: int) -> list[Any]:
    """A setting that may be the same for all stages, as a list."""
    return list(value) if isinstance(value, list | tuple) else [value] * stages


def _described(channels: int, layers: int, attentive: bool, depth: Any, sampler: bool) -> Block:
    return Block(channels, layers, _expanded(depth, layers) if attentive else (), sampler)


def _expanded(depth: Any, layers: int) -> tuple[int, ...]:
    """Transformer layers of each attention; diffusers takes as many of a list as it needs."""
    return tuple(depth[:layers]) if isinstance(depth, list | tuple) else (depth,) * layers


def _stored(
    name: str, kinds: Mapping[str, Mapping[int, set[int]]], shapes: Mapping[str, tuple[int, ...]]
) -> Block:
    """A block of the state dict; raises `KeyError` where it lacks what every block has."""
    attentions = kinds.get("attentions", {})
    return Block(
        channels=shapes[f"{name}.resnets.0.conv1.weight"][0],
        resnets=len(kinds["resnets"]),
        depths=tuple(len(attentions[index]) for index in sorted(attentions)),
        sampler=bool(kinds.get("downsamplers") or kinds.get("upsamplers")),
    )


def _count(blocks: Mapping[str, Block], prefix: str) -> int:
    return sum(name.startswith(prefix) for name in blocks)
