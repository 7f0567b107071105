"""Modules without weights: the architecture that a config describes, on fake tensors.

Tracing needs shapes, not weights. Parameters are fake tensors that own no memory; the few small
buffers (position ids) are real, because the graph folds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ..core.checkpoint import ComponentSource
from ..core.errors import CheckpointError


def fake_mode() -> FakeTensorMode:
    """A fake tensor mode for one trace, with its own symbolic shapes."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    # With symbolic shapes, looking an operator up in the cache takes longer than running it.
    mode.cache_enabled = False
    return mode


def build_skeleton(source: ComponentSource, dtype: torch.dtype) -> nn.Module:
    """Builds the module of a component with parameters on the meta device.

    Args:
        source: The component; its class comes from diffusers or transformers.
        dtype: Type of the parameters.

    Returns:
        The module in evaluation mode, without gradients.

    Raises:
        CheckpointError: The class refuses the config.
    """
    try:
        with init_empty_weights(include_buffers=False):
            module = _instantiate(source)
    except (TypeError, ValueError, NotImplementedError, KeyError) as error:
        raise CheckpointError(
            f"{source.class_name} refuses the config in '{source.folder}' ({error}); mend its "
            "config.json, or download it again."
        ) from error
    # Not by a default dtype: transformers builds inner models in the one that the config names.
    # And not by diffusers' own `to`, which warns about loaded weights; there are none here.
    return nn.Module.to(module, dtype).eval().requires_grad_(False)


def config_of(module: nn.Module) -> Any:
    """The full config of a diffusers or transformers module, defaults included."""
    return module.config


def parameter_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint of `module` holds."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def fake_parameters(module: nn.Module, mode: FakeTensorMode) -> None:
    """Replaces the meta parameters of `module`, in place, by fake ones that pose as CPU tensors."""
    with mode:
        for owner in module.modules():
            for name, parameter in owner.named_parameters(recurse=False):
                fake = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                setattr(owner, name, nn.Parameter(fake, requires_grad=False))


def _instantiate(source: ComponentSource) -> nn.Module:
    config: Mapping[str, Any] = source.config
    if source.library == "diffusers":
        module: nn.Module = getattr(diffusers, source.class_name).from_config(dict(config))
        return module
    # Eager attention: plain operators, and a text encoder is far too small to need more.
    text_config = transformers.CLIPTextConfig(**config, attn_implementation="eager")
    text: nn.Module = getattr(transformers, source.class_name)(text_config)
    return text
