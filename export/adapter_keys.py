"""What an adapter changes: the names that diffusers, kohya and PEFT give, mapped onto modules.

Where diffusers has a function that maps names it is used: it looks at keys only, so that tensors
pass through it unread. LoRA: https://arxiv.org/abs/2106.09685.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import diffusers
from diffusers.configuration_utils import FrozenDict
from diffusers.utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)

from ..core.adapters import ADAPTER_CONFIG, AdapterFile
from ..core.checkpoint import Checkpoint
from ..core.errors import CheckpointError
from .adapter_files import ADAPTABLE
from .adapter_scale import configured_scale, require_plain_lora
from .adapter_tensors import AdapterTensor, LowRank, OpenAdapter, open_adapter

Tensors = Mapping[str, AdapterTensor]

# Where diffusers keeps the adapter's config in a safetensors header (`save_lora_weights`).
_CONFIG_KEY = "lora_adapter_metadata"

_PEFT_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<path>.+)\.lora_(?P<side>[AB])\.weight")

# Part of a tensor's name to the kind of adapter that has such tensors.
_OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "hada_w": "LoHa",
    "lokr_w": "LoKr",
    "lora_mid": "LoCon (with a Tucker core)",
    "oft_": "OFT",
}


def read_updates(file: AdapterFile, checkpoint: Checkpoint) -> tuple[list[LowRank], list[str]]:
    """Finds out which modules an adapter file updates; the updates themselves are not read.

    Args:
        file: The file.
        checkpoint: The pipeline that it is for.

    Returns:
        The updates, and the names of the tensors that belong to none.

    Raises:
        CheckpointError: The file cannot be read, is another kind of adapter than LoRA, or is for a
            component that the pipeline does not have.
    """
    opened = open_adapter(file.file)
    _require_lora(opened.tensors, file)
    find = _named_updates if file.component is None else _peft_updates
    updates = list(find(opened, file, checkpoint))
    used = {tensor.key for update in updates for tensor in (update.down, update.up)}
    used |= {_alpha_key(update.down) for update in updates}
    return updates, [key for key in opened.tensors if key not in used]


def _require_lora(tensors: Tensors, file: AdapterFile) -> None:
    for key in tensors:
        kinds = [kind for part, kind in _OTHER_KINDS.items() if part in key]
        if kinds:
            raise CheckpointError(
                f"The adapter '{file.file}' is a {kinds[0]} adapter (it has '{key}'), which "
                "kdexport cannot fuse; it fuses LoRA of linear layers and convolutions."
            )
        if file.component is None and key.startswith(_PEFT_PREFIX):
            raise CheckpointError(
                f"The adapter '{file.file}' was saved by PEFT; without the {ADAPTER_CONFIG} that "
                "belongs beside it its scale is not known."
            )


def _peft_updates(
    opened: OpenAdapter, file: AdapterFile, checkpoint: Checkpoint
) -> Iterator[LowRank]:
    """The updates of a file that PEFT saved, all of them for one component."""
    component = checkpoint.component(str(file.component)).name
    require_plain_lora(file.config, file.file)
    named = {
        key.removeprefix(_PEFT_PREFIX): tensor
        for key, tensor in opened.tensors.items()
        if key.startswith(_PEFT_PREFIX)
    }
    for path, down, up in _pairs(named):
        scale = configured_scale(file.config, path, down.shape[0], file.file)
        yield LowRank(component, path, down, up, scale)


def _named_updates(
    opened: OpenAdapter, file: AdapterFile, checkpoint: Checkpoint
) -> Iterator[LowRank]:
    """The updates of a file of diffusers or kohya, whose names say the component."""
    configs = _saved_configs(opened, file)
    for component, named in _by_component(opened.tensors, file, checkpoint).items():
        start = f"{component}."
        config = {k.removeprefix(start): v for k, v in configs.items() if k.startswith(start)}
        require_plain_lora(config, file.file)
        for path, down, up in _pairs(named):
            rank, alpha = down.shape[0], opened.tensors.get(_alpha_key(down))
            if alpha is not None:
                scale = alpha.item() / rank
            elif config:
                scale = configured_scale(config, path, rank, file.file)
            else:
                # What both formats mean by saying nothing.
                scale = 1.0
            yield LowRank(component, path, down, up, scale)


def _saved_configs(opened: OpenAdapter, file: AdapterFile) -> dict[str, Any]:
    """The config of every component, `COMPONENT.OPTION`; empty where diffusers saved none."""
    try:
        configs = json.loads(opened.metadata.get(_CONFIG_KEY, "{}"))
    except ValueError as error:
        raise CheckpointError(
            f"The {_CONFIG_KEY} in the header of '{file.file}' is not valid JSON ({error})."
        ) from error
    return dict(configs)


def _by_component(
    tensors: Tensors, file: AdapterFile, checkpoint: Checkpoint
) -> dict[str, dict[str, AdapterTensor]]:
    """The tensors by component, under the names that PEFT gives: `PATH.lora_A.weight`."""
    pipeline = getattr(diffusers, checkpoint.pipeline_class)
    config = None
    if checkpoint.family == "sdxl":
        # kohya numbers the blocks of SDXL as the original code does; depth maps them.
        config = FrozenDict({"layers_per_block": 2, **checkpoint.component("unet").config})
    found = {}
    try:
        # A copy, because diffusers takes the tensors out of it.
        state, _ = pipeline.lora_state_dict(dict(tensors), unet_config=config)
        for component in (name for name in ADAPTABLE if name in checkpoint.components):
            start = f"{component}."
            part = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
            if part:
                found[component] = _peft_names(component, part)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"diffusers cannot map the names in the adapter '{file.file}' onto modules "
            f"({str(error).strip()[:200]}); convert it to diffusers' format."
        ) from error
    return found


def _peft_names(component: str, tensors: Tensors) -> dict[str, AdapterTensor]:
    renamed: dict[str, AdapterTensor]
    if component == "unet":
        renamed = convert_unet_state_dict_to_peft(tensors)
    elif any(_FACTOR.fullmatch(key) for key in tensors):
        renamed = dict(tensors)
    else:
        renamed = convert_state_dict_to_peft(convert_state_dict_to_diffusers(tensors))
    return renamed


def _pairs(tensors: Tensors) -> Iterator[tuple[str, AdapterTensor, AdapterTensor]]:
    """Path, down and up of each module that has both."""
    for key, down in tensors.items():
        match = _FACTOR.fullmatch(key)
        if match is None or match["side"] != "A":
            continue
        up = tensors.get(f"{match['path']}.lora_B.weight")
        if up is not None and all(len(t.shape) > 1 and all(t.shape) for t in (down, up)):
            yield match["path"], down, up


def _alpha_key(down: AdapterTensor) -> str:
    """Where kohya keeps the alpha of a module: `lora_unet_….alpha`."""
    return f"{down.key.split('.')[0]}.alpha"
