"""How large calibration data will be, known from its shapes before anything is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..core.calibration_writer import ARRAY_OVERHEAD
from ..core.dimensions import evaluate
from ..core.manifest import Component, Manifest
from ..runtimes.plan import Plan
from .choice import ChosenCall

# What the file was made from, its prompts included.
_DESCRIPTION = 1 << 16


def file_bytes(manifest: Manifest, plans: Mapping[int, Plan], chosen: Sequence[ChosenCall]) -> int:
    """Upper bound of the size of a file of calibration data, in bytes.

    Args:
        manifest: Of the pipeline.
        plans: What is drawn, by the number of the prompt.
        chosen: The calls of U-Net and ControlNet that are kept of it.
    """
    texts = sum(len(plan.prompts[0].encode()) for plan in plans.values())
    total = _DESCRIPTION + 2 * texts
    for component in manifest.components:
        if component.role in {"unet", "controlnet"}:
            drawn = [plans[each.prompt] for each in chosen]
        else:
            drawn = list(plans.values())
        total += sum(sample_bytes(component, plan, manifest.latents.factor) for plan in drawn)
    return total


def sample_bytes(component: Component, plan: Plan, factor: int) -> int:
    """Upper bound of what one sample of a component takes, in bytes.

    Args:
        component: The component; its dynamic sizes are in latent cells.
        plan: What is drawn.
        factor: Image pixels per latent cell.
    """
    sizes = {
        "batch": _rows(component.role, plan),
        "height": plan.height // factor,
        "width": plan.width // factor,
    }
    total = 0
    for port in component.inputs:
        # All of its dimensions are known here.
        numbers = math.prod(int(evaluate(size, sizes)) for size in port.shape)
        total += numbers * np.dtype(port.dtype).itemsize + ARRAY_OVERHEAD
    return total


def _rows(role: str, plan: Plan) -> int:
    images = plan.latent_shape[0]
    if role.startswith("text_encoder"):
        return len(plan.prompts) + len(plan.negatives or ())
    return 2 * images if plan.guided and role != "vae_decoder" else images
