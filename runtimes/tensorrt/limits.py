"""What an engine's profile allows, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.errors import OptionError, RunError
from ...core.manifest import Component, EngineRecord, Manifest
from ..plan import Plan

Shape = tuple[int, ...]


def bounds(engine: EngineRecord, name: str, axis: int) -> tuple[int, int] | None:
    """Smallest and largest size of a dimension of an input, or None where the profile has none."""
    shapes = engine.profile.get(name)
    if not shapes or axis >= len(shapes[0]):
        return None
    return shapes[0][axis], shapes[2][axis]


def check_shapes(engine: EngineRecord, component: Component, shapes: Mapping[str, Shape]) -> None:
    """Raises `RunError` naming the first dimension that an engine does not take, and its range.

    Args:
        engine: The engine.
        component: What the manifest says of its component, which names the dimensions.
        shapes: The shape of each input.
    """
    for spec in component.inputs:
        shape = shapes[spec.name]
        for axis, size in enumerate(shape):
            range_ = bounds(engine, spec.name, axis)
            if range_ is None or range_[0] <= size <= range_[1]:
                continue
            named = spec.shape[axis]
            which = f"'{named}'" if isinstance(named, str) else f"dimension {axis}"
            raise RunError(
                f"The engine '{engine.file}' takes {_range(range_)} for {which} of its input "
                f"'{spec.name}', not {size}; stay within that, or build the engine with another "
                "--profile."
            )


def check_plan(plan: Plan, manifest: Manifest, unet: EngineRecord) -> None:
    """Raises `OptionError` where the engines cannot draw a plan, in the user's own terms.

    Args:
        plan: What to draw.
        manifest: Of the bundle.
        unet: The engine of the U-Net, whose profile every component shares.
    """
    images = plan.latent_shape[0]
    per_image = 2 if plan.guided else 1
    rows = bounds(unet, "sample", 0)
    if rows is not None and not rows[0] <= images * per_image <= rows[1]:
        allowed = -(-rows[0] // per_image), rows[1] // per_image
        how = "with guidance" if plan.guided else "without guidance"
        raise OptionError(
            f"The engines draw {_images(allowed)} at once {how}, not {images}; draw another number "
            "at once, or build them with another --profile batch=…."
        )
    factor = manifest.latents.factor
    for axis, name, size in ((2, "height", plan.height), (3, "width", plan.width)):
        cells = bounds(unet, "sample", axis)
        if cells is not None and not cells[0] <= size // factor <= cells[1]:
            pixels = cells[0] * factor, cells[1] * factor
            raise OptionError(
                f"The engines draw a {name} of {_range(pixels)} pixels, not {size}; choose one, or "
                f"build them with another --profile {name}=…."
            )


def _range(values: tuple[int, int]) -> str:
    return f"{values[0]} to {values[1]}" if values[0] < values[1] else f"{values[0]}"


def _images(values: tuple[int, int]) -> str:
    if values[0] > values[1]:
        return "no images"
    return f"{_range(values)} image{'' if values[1] == 1 else 's'}"
