"""Which pictures a verification draws."""

from __future__ import annotations

from ..core.guidance import is_guided
from ..core.manifest import EngineRecord, Manifest
from ..core.options import VerifyOptions
from .picture import sample_picture
from .plan import Plan, make_plan
from .request import Request

# Drawn at the second size.
_OTHER_PROMPT = "a lighthouse on a cliff at night, oil painting"
# How far to go from a picture; a run of one step has no other choice than all the way.
_STRENGTH = 0.6


def comparison_plans(manifest: Manifest, options: VerifyOptions) -> list[Plan]:
    """One run per prompt at the main size, and a short one at another size where that may vary.

    Where the bundle has an encoder, the first prompt is also drawn from a picture.

    Raises:
        OptionError: The bundle cannot draw what the options ask for.
    """
    guidance, images = filling_guidance(manifest, options.guidance)
    control = sample_picture() if manifest.control else None
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
                control=control,
            ),
            manifest,
        )
        for prompt in options.prompts
    ]
    if manifest.shapes.height is None or len(manifest.shapes.sizes) > 1:
        plans.append(_other_plan(manifest, plans[0], options.seed + 1))
    if any(each.image and each.name == plans[0].scheduler for each in manifest.samplers):
        plans.append(_picture_plan(manifest, plans[0], options.seed + 2))
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
    if wanted is None and rows % 2 and manifest.guidance_embedding is None:
        guidance = 1.0
    guided = is_guided(guidance, manifest.guidance_embedding)
    return guidance, max(1, rows // 2) if guided else rows


def compared_calls(count: int) -> tuple[int, ...]:
    """Which of the `count` calls of a U-Net or a ControlNet are compared: both ends, the middle."""
    return tuple(sorted({0, count // 2, count - 1}))


def _other_plan(manifest: Manifest, main: Plan, seed: int) -> Plan:
    """A short run at a smaller size that is not square, with another number of rows if it may."""
    height, width = _other_size(manifest, main)
    return make_plan(
        Request(
            prompt=_OTHER_PROMPT,
            steps=min(manifest.samplers[0].steps),
            guidance=1.0,
            images_per_prompt=_other_images(manifest, main),
            seed=seed,
            height=height,
            width=width,
            control=sample_picture() if manifest.control else None,
        ),
        manifest,
    )


def _other_images(manifest: Manifest, main: Plan) -> int:
    """Another number of U-Net rows than with guidance, or two without; what engines take."""
    images = manifest.shapes.batch or (1 if main.guided else 2)
    unet = _engine(manifest)
    if unet is None:
        return images
    least, _, most = unet.profile["sample"]
    return min(max(images, least[0]), most[0])


def _engine(manifest: Manifest) -> EngineRecord | None:
    """An engine of the U-Net, whose profile all of them share."""
    return next((each for each in manifest.engines if each.role == "unet"), None)


def _other_size(manifest: Manifest, main: Plan) -> tuple[int, int]:
    """A smaller height and width; where there are only certain ones, the smallest other.

    Of engines the smallest height and the largest width: both ends of their profile.
    """
    shapes, unet = manifest.shapes, _engine(manifest)
    if unet is not None:
        least, _, most = unet.profile["sample"]
        return least[2] * manifest.latents.factor, most[3] * manifest.latents.factor
    if shapes.sizes:
        others = (size for size in shapes.sizes if size != (main.height, main.width))
        return min(others, key=lambda size: size[0] * size[1])
    units = main.height // shapes.multiple
    low = max(1, units // 2)
    wide = max(low + 1, 3 * units // 4)
    return low * shapes.multiple, wide * shapes.multiple


def _picture_plan(manifest: Manifest, main: Plan, seed: int) -> Plan:
    """The main run again, but from a picture."""
    return make_plan(
        Request(
            prompt=main.prompts[0],
            steps=main.steps,
            guidance=main.guidance,
            images_per_prompt=main.images_per_prompt,
            seed=seed,
            height=main.height,
            width=main.width,
            init=sample_picture(),
            strength=_STRENGTH if main.steps > 1 else 1.0,
            control=sample_picture() if manifest.control else None,
        ),
        manifest,
    )
