"""Where the trained models that ship with kdexport lie; `demo_model/README.md` is their card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..core.checkpoint import Checkpoint
from .json_file import read_json

_FOLDER = Path(__file__).parent / "demo_model"

# What the command line calls a model, to its diffusers folder.
DEMO_MODELS: dict[str, Path] = {
    "demo": _FOLDER / "student",
}

# What the command line calls an adapter that makes another model of `demo`, to its folder.
DEMO_ADAPTERS: dict[str, Path] = {
    "demo-fast": _FOLDER / "fast",
}

# What `--decoder` calls an autoencoder, to its folder.
DEMO_DECODERS: dict[str, Path] = {
    "demo-tiny": _FOLDER / "tiny_vae",
}


def with_demo_settings(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the scheduler, steps and guidance that its adapter was trained for."""
    if checkpoint.model not in DEMO_ADAPTERS:
        return checkpoint
    settings = read_json(DEMO_ADAPTERS[checkpoint.model] / "settings.json", "a demo adapter")
    defaults = {**checkpoint.defaults, **settings["defaults"]}
    return replace(checkpoint, scheduler=settings["scheduler"], defaults=defaults)
