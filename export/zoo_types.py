"""What the zoo says about a model, as typed records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.checkpoint import ComponentSource


@dataclass(frozen=True)
class Expected:
    """Figures that a component must have.

    Attributes:
        parameters: Number of parameters.
        macs: Multiply-accumulates by thop's rule (see `cost.py`), by input size: edge of a square
            latent, or number of tokens for a text encoder.
    """

    parameters: int
    macs: Mapping[int, int]


@dataclass(frozen=True)
class Piece:
    """A component or scheduler: its class in diffusers or transformers, and its config.

    Attributes:
        class_name: The class.
        config: Its configuration; what is absent has the class's default.
        expected: Known figures by part: `unet`, `text_encoder`, `vae_decoder`, `vae_encoder`.
        pad_token: For a text encoder, the token that its tokenizer pads with.
    """

    class_name: str
    config: Mapping[str, Any]
    expected: Mapping[str, Expected]
    pad_token: str | None = None


@dataclass(frozen=True)
class ZooEntry:
    """One model of the zoo.

    Attributes:
        name: Its name in the zoo.
        family: `sd1`, `sd2` or `sdxl`: the teacher's shape.
        pipeline: Class of its diffusers pipeline.
        hub: Ids of the Hub repositories that have this architecture, the main one first.
        unet: The U-Net.
        text_encoders: One text encoder, or two for SDXL.
        vae: Its autoencoder.
        scheduler: The scheduler that its checkpoint ships.
        resolution: Edge of the images it was trained on, in pixels.
        steps: Default number of steps.
        guidance: Default guidance scale; 0 for models distilled without guidance.
        negative_prompt: Negative prompt that its card recommends, or None.
        licence: Licence of the weights, or None where it is not known here.
        published: Figures that its authors published and their source, by Hub id.
    """

    name: str
    family: str
    pipeline: str
    hub: tuple[str, ...]
    unet: Piece
    text_encoders: tuple[Piece, ...]
    vae: Piece
    scheduler: Piece
    resolution: int
    steps: int
    guidance: float
    negative_prompt: str | None
    licence: str | None
    published: Mapping[str, Mapping[str, float | str]]

    def models(self) -> dict[str, Piece]:
        """The components that have weights, by their folder in the pipeline."""
        names = ("text_encoder", "text_encoder_2")
        encoders = dict(zip(names, self.text_encoders, strict=False))
        return {**encoders, "unet": self.unet, "vae": self.vae}

    def source(self, name: str, folder: Path = Path()) -> ComponentSource:
        """The component `name` as if it lay in the pipeline folder `folder`."""
        piece = self.models()[name]
        library = "transformers" if name.startswith("text_encoder") else "diffusers"
        return ComponentSource(name, library, piece.class_name, folder / name, piece.config)
