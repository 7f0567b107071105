"""Single-file checkpoints: all components in one file, by the names of the original repositories.

diffusers' own converters give the tensors their names in diffusers and transformers. They work on
views here, so that nothing is read before the exporter asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)

from ..core.checkpoint import ComponentSource
from ..core.errors import WeightsError
from ..core.weight_files import PICKLES, SAFETENSORS
from .tensors import ReadableTensor, TensorView

# How the names of a component begin, in the order in which diffusers looks for them: first those
# of the original repositories of SD 1.x, SD 2.x and SDXL.
_PREFIXES: dict[str, tuple[str, ...]] = {
    "unet": ("model.diffusion_model.",),
    "vae": ("vae.", "first_stage_model."),
    "text_encoder": (
        "cond_stage_model.transformer.",
        "conditioner.embedders.0.transformer.",
        "cond_stage_model.model.",
    ),
    "text_encoder_2": ("conditioner.embedders.1.model.",),
}

# A tensor by which a file is known that holds this component alone, with the names of diffusers.
_ALONE: dict[str, str] = {
    "unet": "down_blocks.0.resnets.0.conv1.weight",
    "vae": "decoder.up_blocks.0.resnets.0.conv1.weight",
}

# Parts of CLIP that come along in some files and that no pipeline uses.
_LEFT_OVER: dict[str, tuple[str, ...]] = {
    "CLIPTextModel": ("logit_scale", "text_projection", "text_projection.weight"),
    "CLIPTextModelWithProjection": ("logit_scale",),
}


def single_file(model: str) -> Path | None:
    """The single-file checkpoint that the user names, or None where it is something else."""
    path = Path(model).expanduser()
    suffixes = (SAFETENSORS, *PICKLES)
    return path.resolve() if path.suffix in suffixes and path.is_file() else None


def held_components(names: Iterable[str]) -> frozenset[str]:
    """The components that a single file holds, by the names of its tensors."""
    names = frozenset(names)
    held = {name for name, tensor in _ALONE.items() if tensor in names}
    held |= {name for name in _PREFIXES if _prefix(name, names) is not None}
    return frozenset(held)


def component_tensors(
    source: ComponentSource, tensors: Mapping[str, ReadableTensor]
) -> dict[str, ReadableTensor]:
    """One component of a single file, by the names of diffusers or transformers.

    Args:
        source: The component; `file` is where its weights are.
        tensors: All tensors of that file.

    Raises:
        WeightsError: The file does not hold the component, or not as its config describes it, or
            diffusers cannot read this class from single files.
    """
    if _ALONE.get(source.name) in tensors:
        return dict(tensors)
    prefix = _prefix(source.name, tensors)
    if prefix is None:
        raise WeightsError(
            f"'{source.file}' holds no {source.name}; name a pipeline that does with --base."
        )
    views = {
        name: TensorView.of(tensor) for name, tensor in tensors.items() if name.startswith(prefix)
    }
    try:
        converted = _convert(source, prefix, views)
    except KeyError as error:
        raise WeightsError(
            f"The {source.name} in '{source.file}' lacks {error}, which its config asks for; use "
            "the --config that belongs to this file."
        ) from error
    left_over = _LEFT_OVER.get(source.class_name, ())
    return {name: tensor for name, tensor in converted.items() if name not in left_over}


def _prefix(component: str, names: Iterable[str]) -> str | None:
    for prefix in _PREFIXES.get(component, ()):
        if any(name.startswith(prefix) for name in names):
            return prefix
    return None


def _convert(
    source: ComponentSource, prefix: str, views: dict[str, TensorView]
) -> dict[str, ReadableTensor]:
    converted: dict[str, ReadableTensor]
    config = dict(source.config)
    if source.class_name == "UNet2DConditionModel":
        # Blocks are numbered through; where one ends follows from the file, not from a config.
        layers = _layers_per_block(source, prefix, views)
        converted = convert_ldm_unet_checkpoint(views, {**config, "layers_per_block": layers})
    elif source.class_name == "AutoencoderKL":
        converted = convert_ldm_vae_checkpoint(views, config)
    elif source.class_name in _LEFT_OVER and prefix.endswith("transformer."):
        converted = convert_ldm_clip_checkpoint(views)
    elif source.class_name in _LEFT_OVER:
        # It asks for the width of the module, and only where the file has no projection.
        owner = SimpleNamespace(config=SimpleNamespace(hidden_size=config["hidden_size"]))
        converted = convert_open_clip_checkpoint(owner, views, prefix=prefix)
    else:
        raise WeightsError(
            f"diffusers reads no {source.class_name} from single files like '{source.file}'; name "
            "it as a folder or Hub id with --decoder."
        )
    return converted


def _layers_per_block(source: ComponentSource, prefix: str, names: Iterable[str]) -> int:
    """Layers of the first block: as many as come before the first downsampler."""
    pattern = re.compile(rf"{re.escape(prefix)}input_blocks\.(\d+)\.0\.(op\.)?")
    found: list[Any] = [match for match in map(pattern.match, names) if match]
    samplers = [int(match[1]) for match in found if match[2]]
    last = max((int(match[1]) for match in found), default=0)
    # Number 0 is the convolution before the first block.
    layers = min(samplers) - 1 if samplers else last
    if layers < 1:
        raise WeightsError(
            f"The U-Net in '{source.file}' has no blocks that diffusers knows; choose a model of "
            "the shape of Stable Diffusion."
        )
    return layers
