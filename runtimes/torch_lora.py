"""Adapters in the reference: loaded and fused by diffusers' and peft's own code, in float32."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.configuration_utils import FrozenDict

from ..core.adapters import AdapterFile
from ..core.checkpoint import Checkpoint
from ..core.errors import CheckpointError, DependencyError

Tensors = dict[str, torch.Tensor]

# The down projection of a module under any of the names that diffusers reads.
_DOWN = re.compile(r"\.(lora_A|down)\.")
_UP = {"lora_A": "lora_B", "down": "up"}


def require_peft() -> None:
    """Raises `DependencyError` where diffusers lacks what it fuses adapters with."""
    if not diffusers.utils.USE_PEFT_BACKEND:
        least = diffusers.utils.MIN_PEFT_VERSION
        raise DependencyError(
            f"The reference fuses adapters with the package 'peft' {least} or newer; run "
            "pip install 'kdexport[export,cpu]', or export with --no-verify."
        )


def fuse_adapters(pipeline: Any, checkpoint: Checkpoint) -> None:
    """Fuses the adapters of a checkpoint, in place, into the components that a pipeline holds.

    Args:
        pipeline: A diffusers pipeline of the checkpoint's class, in which components may be None.
        checkpoint: Says which adapters.

    Raises:
        DependencyError: peft is missing or too old.
        CheckpointError: diffusers or peft refuses an adapter.
    """
    if checkpoint.adapters:
        require_peft()
    for source in checkpoint.adapters:
        for file in source.files:
            fuse = _fuse_lora if file.component is None else _merge_peft
            try:
                fuse(pipeline, checkpoint, file, source.adapter.scale)
            except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
                raise CheckpointError(
                    f"diffusers cannot fuse the adapter '{source.adapter.model}': "
                    f"{str(error)[:300]}"
                ) from error


def _fuse_lora(pipeline: Any, checkpoint: Checkpoint, file: AdapterFile, scale: float) -> None:
    """What `load_lora_weights`, `fuse_lora` and `unload_lora_weights` do.

    `load_lora_weights` itself wants the U-Net and the text encoders in memory together.
    """
    state, alphas, metadata = _read(pipeline, checkpoint, file.file)
    fused = []
    for component in ("unet", *checkpoint.text_encoders):
        start = f"{component}."
        # float32 whatever the file holds, or peft would round the product to the file's type.
        part = {name: t.float() for name, t in state.items() if name.startswith(start)}
        if getattr(pipeline, component) is None or not part:
            continue
        own = {name: alpha for name, alpha in alphas.items() if name.startswith(start)}
        if metadata is None:
            part, own = _same_scale(part, own)
        _load(pipeline, component, part, own, metadata)
        fused.append(component)
    if fused:
        pipeline.fuse_lora(components=fused, lora_scale=scale)
        pipeline.unload_lora_weights()


def _read(
    pipeline: Any, checkpoint: Checkpoint, file: Path
) -> tuple[Tensors, dict[str, float], dict[str, Any] | None]:
    """The tensors under diffusers' names, kohya's alphas, and the config that diffusers saved."""
    config = None
    if checkpoint.family == "sdxl":
        config = FrozenDict({"layers_per_block": 2, **checkpoint.component("unet").config})
    state, alphas, metadata = pipeline.lora_state_dict(
        str(file), unet_config=config, return_lora_metadata=True
    )
    return state, alphas or {}, metadata


def _load(
    pipeline: Any,
    component: str,
    part: Tensors,
    alphas: Mapping[str, float],
    metadata: dict[str, Any] | None,
) -> None:
    module = getattr(pipeline, component)
    options = {"network_alphas": dict(alphas) or None, "metadata": metadata}
    if component == "unet":
        pipeline.load_lora_into_unet(part, unet=module, **options)
    else:
        pipeline.load_lora_into_text_encoder(part, text_encoder=module, prefix=component, **options)


def _same_scale(part: Tensors, alphas: dict[str, float]) -> tuple[Tensors, dict[str, float]]:
    """The same updates with one rank and the scale 1, where modules differ in rank or alpha.

    diffusers (0.42) writes the alphas that differ under names that match no module, and gives
    those modules the most common alpha; before 0.40 it gives modules that differ in rank a wrong
    scale. Zeros fill up the rank; updates that are all alike stay as they are.
    """
    downs = [name for name in part if _DOWN.search(name)]
    settings = {(alphas.get(_alpha_name(name)), len(part[name])) for name in downs}
    if len(settings) < 2:
        return part, alphas
    most = max(rank for _, rank in settings)
    same = {}
    for name in downs:
        up_name = _DOWN.sub(lambda match: f".{_UP[match[1]]}.", name)
        down, up = part[name], part[up_name]
        rank = len(down)
        up = up * (alphas.get(_alpha_name(name), rank) / rank)
        zeros = (most - rank, *down.shape[1:]), (len(up), most - rank, *up.shape[2:])
        same[name] = torch.cat([down, torch.zeros(zeros[0])])
        same[up_name] = torch.cat([up, torch.zeros(zeros[1])], dim=1)
    return same, {}


def _alpha_name(down: str) -> str:
    """The name that diffusers gives to the alpha of a module (`_get_alpha_name`)."""
    return f"{down.split('.lora.')[0]}.alpha"


def _merge_peft(pipeline: Any, checkpoint: Checkpoint, file: AdapterFile, scale: float) -> None:
    """What the model cards of PEFT adapters tell their users to do."""
    module = getattr(pipeline, str(file.component))
    if module is None:
        return
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    # The device by name: peft would load onto a GPU where there is one.
    wrapped = PeftModel.from_pretrained(module, str(file.file.parent), torch_device="cpu")
    for layer in wrapped.modules():
        if isinstance(layer, LoraLayer):
            layer.scale_layer(scale)
    wrapped.merge_and_unload()
