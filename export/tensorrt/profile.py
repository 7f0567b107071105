"""Optimization profiles: the sizes that an engine takes, held against what the network takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...core.errors import OptionError, listing

if TYPE_CHECKING:
    from ...core.profiles import Ranges

_EXTENTS = ("smallest", "best", "largest")

# Shape of an input: sizes, and names of those that are open.
Shape = Sequence[int | str]


def require_profile(inputs: Mapping[str, Shape], ranges: Mapping[str, Ranges], role: str) -> None:
    """Holds a profile against the inputs of a network.

    Args:
        inputs: Shape of each input of the ONNX file.
        ranges: Smallest, best and largest shape of each input.
        role: The component, for the message.

    Raises:
        OptionError: An input is unknown or left out, a rank or a fixed dimension differs, or the
            three sizes of a dimension are not in order.
    """
    unknown = [name for name in ranges if name not in inputs]
    if unknown:
        raise OptionError(
            f"The profile of '{role}' has the input '{unknown[0]}', and the network takes only "
            f"{listing(inputs)}."
        )
    for name, shape in inputs.items():
        if name not in ranges:
            raise OptionError(
                f"The profile of '{role}' leaves out the input '{name}'; give its smallest, best "
                "and largest shape."
            )
        _require_input(name, shape, ranges[name], role)


def add_profile(builder: Any, network: Any, config: Any, ranges: Mapping[str, Ranges]) -> None:
    """Gives a build its profile, which `require_profile` has let pass.

    Args:
        builder: `Builder` of TensorRT.
        network: `INetworkDefinition`.
        config: `IBuilderConfig`.
        ranges: Smallest, best and largest shape of each input.
    """
    profile = builder.create_optimization_profile()
    open_inputs = 0
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if any(size < 0 for size in tensor.shape):
            profile.set_shape(tensor.name, *ranges[tensor.name])
            open_inputs += 1
    if open_inputs:
        config.add_optimization_profile(profile)


def _require_input(name: str, shape: Shape, ranges: Ranges, role: str) -> None:
    where = f"The profile of '{role}'"
    for extent, sizes in zip(_EXTENTS, ranges, strict=True):
        if len(sizes) != len(shape):
            raise OptionError(
                f"{where} gives '{name}' {len(sizes)} dimensions as its {extent} shape, and the "
                f"network takes {len(shape)}: {_said(shape)}."
            )
        for axis, (size, fixed) in enumerate(zip(sizes, shape, strict=True)):
            if isinstance(fixed, int) and size != fixed:
                raise OptionError(
                    f"{where} gives dimension {axis} of '{name}' the size {size}, and in the "
                    f"network it is fixed at {fixed}: {_said(shape)}; export the model for that "
                    "size, or leave it dynamic."
                )
    for axis, (least, best, most) in enumerate(zip(*ranges, strict=True)):
        if not 0 < least <= best <= most:
            raise OptionError(
                f"{where} gives dimension {axis} ('{shape[axis]}') of '{name}' the sizes {least}, "
                f"{best} and {most}; they must be at least 1 and in the order smallest, best, "
                "largest."
            )


def _said(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"
