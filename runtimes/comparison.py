"""Which pictures a verification draws."""

from __future__ import annotations

from ..core.manifest import Manifest
from ..core.options import VerifyOptions
from .request import Plan, Request, is_guided, make_plan

# Drawn at the second size.
_OTHER_PROMPT = "a lighthouse on a cliff at night, oil painting"


def comparison_plans(manifest: Manifest, options: VerifyOptions) -> list[Plan]:
    """One run per prompt at the main size, and a short one at another size where that may vary.

    Raises:
        OptionError: The bundle cannot draw what the options ask for.
    """
    guidance, images = filling_guidance(manifest, options.guidance)
    plans = [
        make_plan(
            Request(
                prompt=prompt,
                steps=options.steps,
                guidance=guidance,
                images_per_prompt=images,
                seed=options.seed,
                height=options.height,
                width=options.width,
            ),
            manifest,
        )
        for prompt in options.prompts
    ]
    if manifest.shapes.height is None:
        plans.append(_other_plan(manifest, plans[0], options.seed + 1))
    return plans


def filling_guidance(manifest: Manifest, wanted: float | None) -> tuple[float, int]:
    """Guidance and number of images that fill a fixed number of U-Net rows; else one image.

    Args:
        manifest: Of the bundle.
        wanted: A guidance scale, or None for the bundle's, or none at all where rows are odd.
    """
    rows = manifest.shapes.batch
    guidance = manifest.defaults.guidance if wanted is None else wanted
    if rows is None:
        return guidance, 1
    if wanted is None and rows % 2:
        guidance = 1.0
    return guidance, max(1, rows // 2) if is_guided(guidance) else rows


def _other_plan(manifest: Manifest, main: Plan, seed: int) -> Plan:
    """A short run at a smaller size that is not square, with another number of rows if it may."""
    multiple, rows = manifest.shapes.multiple, manifest.shapes.batch
    units = main.height // multiple
    low = max(1, units // 2)
    wide = max(low + 1, 3 * units // 4)
    return make_plan(
        Request(
            prompt=_OTHER_PROMPT,
            steps=min(manifest.samplers[0].steps),
            guidance=1.0,
            images_per_prompt=rows or (1 if main.guided else 2),
            seed=seed,
            height=low * multiple,
            width=wide * multiple,
        ),
        manifest,
    )
