"""The reference's parts out of a single-file checkpoint, by diffusers' own `from_single_file`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    create_diffusers_clip_model_from_ldm,
    load_single_file_checkpoint,
)

from ..core.checkpoint import ComponentSource


def load_from_single_file(kind: Any, source: ComponentSource) -> Any:
    """Loads a component as diffusers' pipelines do in `from_single_file`, in float32.

    Args:
        kind: Its class in diffusers or transformers.
        source: The component; its `config` counts, mended or not.

    Raises:
        OSError: The file cannot be read.
        ValueError: It does not hold what the config describes.
    """
    file = str(source.file)
    with tempfile.TemporaryDirectory() as folder:
        # diffusers takes a config from a folder only.
        config = json.dumps(dict(source.config))
        (Path(folder) / "config.json").write_text(config, encoding="utf-8")
        if source.library == "diffusers":
            return kind.from_single_file(
                file, config=folder, torch_dtype=torch.float32, local_files_only=True
            )
        return create_diffusers_clip_model_from_ldm(
            kind,
            load_single_file_checkpoint(file),
            config=folder,
            torch_dtype=torch.float32,
            local_files_only=True,
        )
