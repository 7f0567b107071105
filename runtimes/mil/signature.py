"""What a package says of its inputs and outputs, and which sizes it allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...core.errors import RunError, listing
from ...core.manifest import TensorSpec

# Core ML's ArrayFeatureType.ArrayDataType.
_DTYPES = {65568: "float32", 65552: "float16", 131104: "int32", 131080: "int8"}


@dataclass(frozen=True)
class Port:
    """An input or output as the package's description has it.

    Attributes:
        name: Its name.
        dtype: "float32", "float16", "int32" or "int8".
        shape: Its sizes, those of the default where several are allowed.
        description: The sentence that Xcode shows.
        shapes: Every shape that is allowed where they are enumerated, else empty.
        ranges: The least and the largest size of each axis where ranges are allowed, else empty;
            -1 is no limit.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    description: str
    shapes: tuple[tuple[int, ...], ...]
    ranges: tuple[tuple[int, int], ...]

    def spec(self) -> TensorSpec:
        """The port with a name for each axis that can have several sizes."""
        free = [least != most for least, most in self.ranges] or [
            len({shape[axis] for shape in self.shapes}) > 1 for axis in range(len(self.shape))
        ]
        sizes = zip(self.shape, free, strict=True)
        return TensorSpec(
            self.name,
            self.dtype,
            tuple(
                f"{self.name}.{axis}" if varies else size
                for axis, (size, varies) in enumerate(sizes)
            ),
        )


def read_ports(features: Iterable[Any], path: Path) -> tuple[Port, ...]:
    """Reads inputs or outputs of a model description.

    Args:
        features: `FeatureDescription` messages.
        path: The package, for the errors.

    Raises:
        RunError: One of them is no tensor, or of an unknown element type.
    """
    return tuple(_port(feature, path) for feature in features)


def _port(feature: Any, path: Path) -> Port:
    kind = feature.type.WhichOneof("Type")
    if kind != "multiArrayType":
        raise RunError(
            f"'{feature.name}' of '{path}' is of the kind '{kind}'; only tensors are supported."
        )
    array = feature.type.multiArrayType
    if array.dataType not in _DTYPES:
        raise RunError(
            f"'{feature.name}' of '{path}' has an element type that is not supported; supported "
            f"are {listing(_DTYPES.values())}."
        )
    return Port(
        name=feature.name,
        dtype=_DTYPES[array.dataType],
        shape=tuple(array.shape),
        description=feature.shortDescription,
        shapes=tuple(tuple(each.shape) for each in array.enumeratedShapes.shapes),
        ranges=tuple((each.lowerBound, each.upperBound) for each in array.shapeRange.sizeRanges),
    )


def output_specs(ports: Sequence[Port], variables: Sequence[Any]) -> tuple[TensorSpec, ...]:
    """Outputs with the sizes of the program, since a description has none where they vary.

    Args:
        ports: The outputs of the description.
        variables: The outputs of the program's function.
    """
    shapes = {each.name: each.shape for each in variables}
    return tuple(
        TensorSpec(
            port.name,
            port.dtype,
            tuple(
                int(size) if str(size).lstrip("-").isdigit() else f"{port.name}.{axis}"
                for axis, size in enumerate(shapes[port.name])
            ),
        )
        for port in ports
    )


def check_sizes(feed: Mapping[str, NDArray[Any]], ports: Sequence[Port], path: Path) -> None:
    """Raises `RunError` where a shape is none that the package was compiled for.

    Core ML pairs the enumerated shapes of several inputs by their place in the lists.
    """
    for port in ports:
        shape = feed[port.name].shape
        if port.shapes and shape not in port.shapes:
            raise RunError(
                f"The input '{port.name}' of '{path}' has the shape {shape}, but the package "
                f"allows only {listing([str(each) for each in port.shapes])}."
            )
        for axis, (least, most) in enumerate(port.ranges):
            if shape[axis] < least or 0 <= most < shape[axis]:
                raise RunError(
                    f"The input '{port.name}' of '{path}' has the size {shape[axis]} at axis "
                    f"{axis}, but the package allows only {least} to "
                    f"{most if most >= 0 else 'any'}."
                )
    several = [port for port in ports if port.shapes]
    if len({len(port.shapes) for port in several}) == 1:
        sets = list(zip(*(port.shapes for port in several), strict=True))
        given = tuple(feed[port.name].shape for port in several)
        if given not in sets:
            raise RunError(
                f"The shapes {given} of the inputs {listing([port.name for port in several])} of "
                f"'{path}' are not of one set; the package allows {listing(map(str, sets))}."
            )
