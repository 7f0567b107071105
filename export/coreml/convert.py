"""A component with Apple's inputs and outputs to a float32 MIL program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...core.errors import ExportError, OptionError, first_line
from .layer_names import name_nodes, name_operations
from .sizes import Sizes, dynamic_shapes, input_shape, largest, plain_symbols, require_sizes
from .toolbox import Progress, converting, coremltools, deployment_target, quiet

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program

    from .ports import AppleModule

NUMPY_TYPES = {torch.float16: np.float16, torch.float32: np.float32}

# What part of the time goes into each step, measured on BK-SDM-Small's U-Net.
_EXPORTED = 0.2
_SPANS = ((_EXPORTED, 0.5), (0.5, 0.55), (0.55, 1.0))


def to_program(
    module: AppleModule, sizes: Sizes, target: str, progress: Progress | None = None
) -> Program:
    """Converts a component to a MIL program that computes in float32.

    Its inputs and outputs have the names and types of the ports. Operations are named after their
    layers (`layer_names.py`), weights after the module's parameters, whose memory they share.

    Args:
        module: The component, with real float32 parameters.
        sizes: Height and width in latent cells, all that the model is to take, the default first.
        target: One of `toolbox.TARGETS`.
        progress: Told how far the work is.

    Raises:
        OptionError: There is no such target, or it or the model cannot have these sizes.
        ExportError: torch or coremltools cannot follow the module; the message names the layer.
    """
    minimum, ct = deployment_target(target), coremltools()
    require_sizes(module.inputs, sizes, target)
    if progress is not None:
        progress(0.0)
    exported = _export(module, sizes)
    name_nodes(exported, [port.name for port in (*module.inputs, *module.outputs)])
    plain_symbols(exported)
    with converting(f"convert {_named(module)}", progress, _SPANS):
        program = ct.convert(
            exported,
            convert_to="milinternal",
            minimum_deployment_target=minimum,
            compute_precision=ct.precision.FLOAT32,
            inputs=_inputs(module, sizes, ct),
            outputs=_outputs(module, ct),
        )
    name_operations(program)
    return program


def _export(module: AppleModule, sizes: Sizes) -> torch.export.ExportedProgram:
    shapes = dynamic_shapes(module.inputs, sizes)
    if shapes is not None and _is_sliced(module):
        raise OptionError(
            f"The attention of {_named(module)} works in slices, whose number depends on the size, "
            "so that it takes one size only; give one, or choose --attention split-einsum or "
            "original without --slice-size."
        )
    with quiet(), torch.no_grad():
        try:
            exported = torch.export.export(
                module, module.examples(largest(sizes)), dynamic_shapes=shapes
            )
            # What remains is the dialect that coremltools takes.
            decomposed: torch.export.ExportedProgram = exported.run_decompositions({})
        except Exception as error:
            raise ExportError(
                f"torch.export cannot follow {_named(module)}: {first_line(error)}."
            ) from error
    return decomposed


def _inputs(module: AppleModule, sizes: Sizes, ct: Any) -> list[Any]:
    return [
        ct.TensorType(port.name, input_shape(port, sizes, ct), NUMPY_TYPES[port.dtype])
        for port in module.inputs
    ]


def _outputs(module: AppleModule, ct: Any) -> list[Any]:
    return [ct.TensorType(port.name, dtype=NUMPY_TYPES[port.dtype]) for port in module.outputs]


def _is_sliced(module: AppleModule) -> bool:
    """Whether a layer attends in slices of the queries."""
    choices = [getattr(each, name, None) for each in module.modules() for name in _CHOICES]
    return any(getattr(each, "slice_size", None) is not None for each in choices)


# Where a layer of diffusers, and one of `channels_first.py`, holds how it attends.
_CHOICES = ("processor", "split")


def _named(module: AppleModule) -> str:
    return f"'{type(module.inner).__name__}'"
