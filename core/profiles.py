"""The sizes that engines take: of a pipeline as users say them, of inputs as TensorRT does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

from .dimensions import evaluate
from .errors import BundleError, OptionError, choices
from .manifest import Component, Shapes

# Smallest, best and largest shape of an input.
Ranges: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

_PER_IMAGE = ("unet", "controlnet")


@dataclass(frozen=True)
class Extent:
    """The values that a dimension takes: from `minimum` to `maximum`, tuned for `optimum`."""

    minimum: int
    optimum: int
    maximum: int

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.optimum <= self.maximum:
            raise OptionError(
                f"'{self}' is no range of sizes: they must be at least 1 and in the order "
                "minimum, optimum, maximum."
            )

    def __str__(self) -> str:
        return f"{self.minimum},{self.optimum},{self.maximum}"

    @property
    def fixed(self) -> bool:
        """Whether there is one value only."""
        return self.minimum == self.maximum

    def values(self) -> tuple[int, int, int]:
        """Minimum, optimum and maximum."""
        return self.minimum, self.optimum, self.maximum

    @classmethod
    def parse(cls, text: str) -> Extent:
        """Reads `512` (that value only) or `512,768,1024`; raises `OptionError` on all else."""
        parts = text.split(",")
        if len(parts) not in (1, 3) or not all(part.strip().isdecimal() for part in parts):
            raise OptionError(
                f"'{text}' is no range of sizes; give one number, or three: minimum, optimum and "
                "maximum, such as 512,768,1024."
            )
        numbers = [int(part) for part in parts]
        return cls(*numbers) if len(numbers) == 3 else cls(*numbers * 3)


@dataclass(frozen=True)
class Profile:
    """What a pipeline of engines is to draw.

    Attributes:
        batch: Images at once.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
    """

    batch: Extent
    height: Extent
    width: Extent

    @classmethod
    def parse(cls, texts: Iterable[str], default_size: int | tuple[int, int]) -> Profile:
        """Reads what the user gave; what is left out is one image of the default size.

        Args:
            texts: `NAME=VALUE` or `NAME=MIN,OPT,MAX` for `batch`, `height` and `width`.
            default_size: Height and width in pixels, or the edge of a square.

        Raises:
            OptionError: A text is not of that form, or a name is unknown or given twice.
        """
        names = [field.name for field in fields(cls)]
        height, width = (default_size,) * 2 if isinstance(default_size, int) else default_size
        extents: dict[str, Extent] = {}
        for text in texts:
            name, equals, value = text.partition("=")
            name = name.strip()
            if not equals or name not in names:
                raise OptionError(
                    f"'{text}' is no profile; give NAME=MIN,OPT,MAX, where the name is "
                    f"{choices(names)}."
                )
            if name in extents:
                raise OptionError(f"The profile of {name} was given twice; give it once.")
            extents[name] = Extent.parse(value)
        defaults = {"batch": 1, "height": height, "width": width}
        return cls(**{name: Extent(size, size, size) for name, size in defaults.items()} | extents)


def require_drawable(profile: Profile, shapes: Shapes, rows_per_image: int) -> None:
    """Holds a profile against the sizes that the ONNX files of a bundle take.

    Args:
        profile: What is to be drawn.
        shapes: The sizes that the bundle takes.
        rows_per_image: Rows of the U-Net for an image.

    Raises:
        OptionError: A dimension is fixed in the bundle, or has a size that it does not take.
    """
    for name, extent, only in (
        ("height", profile.height, shapes.height),
        ("width", profile.width, shapes.width),
    ):
        if only is not None and extent.values() != (only,) * 3:
            raise OptionError(
                f"The profile {name}={extent} does not fit the bundle, whose {name} is fixed at "
                f"{only} pixels; leave it out, or export the model again."
            )
        for size in extent.values():
            if size % shapes.multiple:
                raise OptionError(
                    f"The profile {name}={extent} has {size}, but the {name} must be a multiple "
                    f"of {shapes.multiple} pixels."
                )
    rows = [images * rows_per_image for images in profile.batch.values()]
    if shapes.batch is not None and rows != [shapes.batch] * 3:
        raise OptionError(
            f"The profile batch={profile.batch} does not fit the bundle, whose U-Net takes "
            f"{shapes.batch} rows only ({rows_per_image} for an image); export the model again."
        )


def shape_ranges(
    component: Component, profile: Profile, rows_per_image: int, latent_factor: int
) -> dict[str, Ranges]:
    """Smallest, best and largest shape of every input of a component.

    A U-Net takes one row per image where guidance is off, which is its minimum. Text encoders take
    one prompt or more, decoders one image or more, encoders one picture.

    Args:
        component: As the manifest describes it.
        profile: What the pipeline is to draw.
        rows_per_image: Rows of the U-Net for an image where the model is run as it should be.
        latent_factor: Image pixels per latent cell.

    Raises:
        BundleError: An input has a dimension of an unknown name.
    """
    least, best, most = profile.batch.values()
    rows = {
        "vae_decoder": (1, best, most),
        "vae_encoder": (1, 1, 1),
        **dict.fromkeys(_PER_IMAGE, (least, best * rows_per_image, most * rows_per_image)),
    }.get(component.role, (1, best * rows_per_image, most * rows_per_image))
    cell = 1 if component.role == "vae_encoder" else latent_factor
    sizes = [
        {"batch": batch, "height": height // cell, "width": width // cell}
        for batch, height, width in zip(
            rows, profile.height.values(), profile.width.values(), strict=True
        )
    ]
    return {
        spec.name: (
            _shape(spec.shape, sizes[0], component.role),
            _shape(spec.shape, sizes[1], component.role),
            _shape(spec.shape, sizes[2], component.role),
        )
        for spec in component.inputs
    }


def _shape(shape: Sequence[int | str], values: Mapping[str, int], role: str) -> tuple[int, ...]:
    sizes = []
    for size in shape:
        value = evaluate(size, values)
        if isinstance(value, str):
            raise BundleError(
                f"The dimension '{value}' of '{role}' is not one that profiles know; export the "
                "model again."
            )
        sizes.append(value)
    return tuple(sizes)
