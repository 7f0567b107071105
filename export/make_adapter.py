"""Made-up adapters: low-rank updates of every attention projection of a U-Net."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.adapters import ADAPTER_CONFIG
from ..core.checkpoint import ComponentSource
from .draw import Draw
from .safetensors_file import write_safetensors
from .skeleton import build_skeleton
from .zoo_types import AdapterPiece

_PROJECTION = re.compile(r"\.attn[12]\.to_(q|k|v|out\.0)$")
_EFFECT = 0.2  # of an update, beside weights of standard deviation 1 / sqrt(inputs)
# Format to the file, and to the names of the two factors of a module.
_FILES = {"peft": "adapter_model.safetensors", "kohya": "pytorch_lora_weights.safetensors"}


def write_adapter(folder: Path, piece: AdapterPiece, unet: ComponentSource, seed: int) -> None:
    """Writes the adapter's files into a new folder.

    Args:
        folder: The folder.
        piece: Format and rank.
        unet: The U-Net that it adapts; only its class and config are used.
        seed: Seed of the weights.
    """
    draws = dict(_draws(piece, unet))
    folder.mkdir()
    shapes = {name: draw.shape for name, draw in draws.items()}
    arrays: Iterator[NDArray[np.float32]] = (
        draw.array(seed, "adapter", name) for name, draw in draws.items()
    )
    write_safetensors(folder / _FILES[piece.format], shapes, arrays)
    if piece.format == "peft":
        config = {
            "auto_mapping": {"base_model_class": unet.class_name, "parent_library": "diffusers"},
            "lora_alpha": piece.rank,
            "peft_type": "LORA",
            "r": piece.rank,
            "target_modules": ["to_q", "to_k", "to_v", "to_out.0"],
        }
        text = json.dumps(config, indent=2) + "\n"
        (folder / ADAPTER_CONFIG).write_text(text, encoding="utf-8")


def _draws(piece: AdapterPiece, unet: ComponentSource) -> Iterator[tuple[str, Draw]]:
    skeleton = build_skeleton(unet, torch.float32)
    for path, layer in sorted(skeleton.named_modules()):
        if not _PROJECTION.search(path):
            continue
        weight = layer.get_parameter("weight")
        outputs, inputs = weight.shape
        down, up = _names(piece.format, path)
        yield down, Draw((piece.rank, inputs), inputs**-0.5)
        yield up, Draw((outputs, piece.rank), _EFFECT * piece.rank**-0.5)


def _names(kind: str, path: str) -> tuple[str, str]:
    if kind == "peft":
        stem = f"base_model.model.{path}"
        return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"
    stem = f"lora_unet_{path.replace('.', '_')}"
    return f"{stem}.lora_down.weight", f"{stem}.lora_up.weight"
