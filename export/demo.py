"""Where the trained models that ship with kdexport lie; `demo_model/README.md` is their card."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "demo_model"

# What the command line calls a model, to its diffusers folder.
DEMO_MODELS: dict[str, Path] = {
    "demo": _FOLDER / "student",
}

# What `--decoder` calls an autoencoder, to its folder.
DEMO_DECODERS: dict[str, Path] = {
    "demo-tiny": _FOLDER / "tiny_vae",
}
