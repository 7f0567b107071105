"""Which ControlNets can be exported, and how pictures are made ready for those that are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.checkpoint import Checkpoint, ControlSource
from ..core.errors import CheckpointError, OptionError
from ..core.manifest import ControlRecord
from ..core.options import ModelOptions
from .make import made_of
from .zoo import zoo_match
from .zoo_types import ControlCard

# Pipeline class to the class of the same pipeline with a ControlNet.
CONTROLLED: dict[str, str] = {
    "StableDiffusionPipeline": "StableDiffusionControlNetPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLControlNetPipeline",
}


# Options of ControlNetModel that the wrapper or the runtime does not carry over, with the only
# value that they may have.
_OPTIONS: dict[str, Any] = {
    "addition_embed_type_num_heads": 64,
    "class_embed_type": None,
    "conditioning_channels": 3,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "global_pool_conditions": False,
    "num_class_embeds": None,
}


def is_controlled(pipeline_class: str) -> bool:
    """Whether pipelines of a class have a ControlNet."""
    return pipeline_class in CONTROLLED.values()


def control_source(checkpoint: Checkpoint, options: ModelOptions) -> ControlSource:
    """How a pipeline is steered: as the user says, else as the ControlNet's card recommends.

    Args:
        checkpoint: The pipeline, whose own ControlNet counts where the options name none.
        options: What the user added.
    """
    named = options.controlnet or made_of(checkpoint.index) or checkpoint.model
    known = zoo_match(named)
    card = (known.controlnet if known else None) or ControlCard()
    scale, invert = options.control_scale, options.control_invert
    return ControlSource(
        model=options.controlnet,
        scale=card.scale if scale is None else float(scale),
        invert=card.invert if invert is None else invert,
    )


def require_no_control(model: str, options: ModelOptions) -> None:
    """Raises `OptionError` where options speak of a ControlNet that there is not."""
    if options.control_scale is not None or options.control_invert is not None:
        raise OptionError(
            f"'{model}' has no ControlNet, so it can have neither a control scale nor an inversion "
            "of control pictures; leave these out, or add a ControlNet."
        )


def require_known_controlnet(config: Mapping[str, Any], name: str) -> None:
    """Raises `CheckpointError` where a ControlNet's config asks for what cannot be exported."""
    for option, allowed in _OPTIONS.items():
        if config.get(option, allowed) != allowed:
            raise CheckpointError(
                f"The ControlNet '{name}' sets {option} to {config[option]!r}, which kdexport "
                f"cannot export; choose a ControlNet where it is {allowed!r}."
            )
    if config.get("addition_embed_type") not in (None, "text_time"):
        raise CheckpointError(
            f"The ControlNet '{name}' sets addition_embed_type to "
            f"{config['addition_embed_type']!r}, which kdexport cannot export; choose a "
            "ControlNet where it is null or 'text_time'."
        )


def control_record(checkpoint: Checkpoint) -> ControlRecord | None:
    """What the manifest says of a checkpoint's ControlNet, or None where it has none."""
    if checkpoint.control is None:
        return None
    return ControlRecord(
        scale=checkpoint.control.scale,
        invert=checkpoint.control.invert,
        channels=int(_OPTIONS["conditioning_channels"]),
    )
