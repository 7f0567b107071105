"""What a component takes and gives in the loop, whatever its files call it.

The loop speaks the names and shapes of the ONNX bundles. Core ML packages have those that Apple's
Swift library expects; the manifest says which is which.
"""

from __future__ import annotations

from ..core.manifest import Component, TensorSpec
from .base import Signature

# Numbers in the loop, whatever the files take.
SCALARS = ("timestep", "conditioning_scale")


def loop_signature(component: Component) -> Signature:
    """The inputs and outputs of a component as the loop has them."""
    if not component.ports:
        return Signature(component.inputs, component.outputs)
    inputs = [_loop_spec(spec, component.ports[spec.name]) for spec in component.inputs]
    if component.role == "controlnet":
        # Apple's ControlNets have no such input; the residuals are multiplied outside.
        inputs.append(TensorSpec("conditioning_scale", "float32", ()))
    outputs = (_loop_spec(spec, component.ports[spec.name]) for spec in component.outputs)
    return Signature(tuple(inputs), tuple(outputs))


def _loop_spec(spec: TensorSpec, name: str) -> TensorSpec:
    if name in SCALARS:
        return TensorSpec(name, "float32", ())
    dtype = "int64" if name == "input_ids" else "float32"
    sizes = spec.shape[1:]
    if name == "encoder_hidden_states":
        channels, _, tokens = sizes
        sizes = (tokens, channels)
    if is_tiny_encoding(spec.name, name):
        sizes = (int(sizes[0]) // 2, *sizes[1:])
    return TensorSpec(name, dtype, ("batch", *sizes))


def is_tiny_encoding(port: str, name: str) -> bool:
    """Whether an output has mean and variance for Apple's library, but the loop takes the mean.

    Args:
        port: Its name in the file.
        name: Its name in the loop.
    """
    return (port, name) == ("latent", "latent_sample")
