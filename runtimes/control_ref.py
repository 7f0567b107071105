"""The reference's side of a ControlNet: what diffusers' pipeline is told, and what it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from ..core.checkpoint import Checkpoint
from ..core.errors import CheckpointError
from .plan import Plan

Arrays = dict[str, NDArray[Any]]


def require_same_control(checkpoint: Checkpoint, plan: Plan) -> None:
    """Raises `CheckpointError` where only one of the bundle and its reference has a ControlNet."""
    if (checkpoint.control is None) == (plan.control is None):
        return
    has, lacks = ("bundle", "reference") if plan.control else ("reference", "bundle")
    raise CheckpointError(
        f"The {has} has a ControlNet and the {lacks} has none, so '{checkpoint.model}' cannot be "
        "compared with the bundle; name a reference with the same parts."
    )


def control_arguments(checkpoint: Checkpoint, plan: Plan) -> dict[str, Any]:
    """What the pipeline's `__call__` takes more than without a ControlNet.

    The inversion is the checkpoint's, not the plan's, so that a wrong manifest is noticed.
    """
    if checkpoint.control is None or plan.control is None:
        return {}
    pictures = list(plan.control.pictures)
    if checkpoint.control.invert:
        pictures = [ImageOps.invert(each.convert("RGB")) for each in pictures]
    scale = {"controlnet_conditioning_scale": plan.control.scale}
    if plan.init is None:
        return {"image": pictures, **scale}
    # The pipelines that start from a picture call that one the image, and leave control pictures
    # at their own size where none is given.
    return {"control_image": pictures, "height": plan.height, "width": plan.width, **scale}


def residual_arrays(down: Any, mid: Any) -> Arrays:
    """Residuals by the names of the bundle's ports; they share memory with the tensors."""
    arrays = {f"down_block_residual_{index}": each.numpy() for index, each in enumerate(down)}
    return {**arrays, "mid_block_residual": mid.numpy()}


def added_residuals(keywords: dict[str, Any]) -> Arrays:
    """The residuals among the keyword arguments of a U-Net's call, if there are any."""
    mid = keywords.get("mid_block_additional_residual")
    if mid is None:
        return {}
    return residual_arrays(keywords["down_block_additional_residuals"], mid)


def residual_arguments(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a U-Net's call that recorded residuals were, if there are any.

    Args:
        tensors: By the names of the bundle's ports.
    """
    if "mid_block_residual" not in tensors:
        return {}
    count = sum(name.startswith("down_block_residual_") for name in tensors)
    return {
        "down_block_additional_residuals": tuple(
            tensors[f"down_block_residual_{index}"] for index in range(count)
        ),
        "mid_block_additional_residual": tensors["mid_block_residual"],
    }


def controlnet_feed(keywords: dict[str, Any]) -> Arrays:
    """The inputs of a ControlNet that a U-Net does not have."""
    return {
        "controlnet_cond": keywords["controlnet_cond"].numpy(),
        "conditioning_scale": np.array(keywords["conditioning_scale"], np.float32),
    }
