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
class AdapterPiece:
    """The adapter of a made-up model: the published ones' layouts are not known here.

    Attributes:
        format: `peft` for a PEFT folder, `kohya` for a file with kohya's names.
        rank: Of its updates of all attention projections.
    """

    format: str
    rank: int


@dataclass(frozen=True)
class ControlCard:
    """How the author of a ControlNet uses it.

    Attributes:
        scale: Factor of its residuals.
        invert: Whether control pictures are inverted first.
        net: Its class and config, or None where nothing more is known.
    """

    scale: float = 1.0
    invert: bool = False
    net: Piece | None = None


@dataclass(frozen=True)
class ZooEntry:
    """One model of the zoo.

    Attributes:
        name: Its name in the zoo.
        family: `sd1`, `sd2` or `sdxl`: the teacher's shape.
        pipeline: Class of its diffusers pipeline.
        hub: Ids of the Hub repositories that have this architecture, the main one first.
        base: The Hub id of the pipeline that completes those repositories, where they hold an
            adapter, a ControlNet or a U-Net only; else None.
        decoder: The Hub id of the VAE to complete them with, or None for the base's.
        unet: The U-Net.
        text_encoders: One text encoder, or two for SDXL.
        vae: Its autoencoder.
        scheduler: The scheduler that its checkpoint ships.
        scheduler_overrides: Settings of it that the model's card changes at run time.
        resolution: Edge of the images it was trained on, in pixels.
        steps: Default number of steps.
        guidance: Default guidance scale; 0 for models distilled without guidance.
        negative_prompt: Negative prompt that its card recommends, or None.
        licence: Licence of the weights, or None where it is not known here.
        adapter: What is fused into the weights, or None.
        controlnet: The ControlNet, or None.
        published: Figures that its authors published and their source, by Hub id.
    """

    name: str
    family: str
    pipeline: str
    hub: tuple[str, ...]
    base: str | None
    decoder: str | None
    unet: Piece
    text_encoders: tuple[Piece, ...]
    vae: Piece
    scheduler: Piece
    scheduler_overrides: Mapping[str, Any]
    resolution: int
    steps: int
    guidance: float
    negative_prompt: str | None
    licence: str | None
    adapter: AdapterPiece | None
    controlnet: ControlCard | None
    published: Mapping[str, Mapping[str, float | str]]

    @property
    def defaults(self) -> dict[str, Any]:
        """`steps`, `guidance` and `negative_prompt` as the model's card recommends them."""
        return {
            "steps": self.steps,
            "guidance": self.guidance,
            "negative_prompt": self.negative_prompt,
        }

    def models(self) -> dict[str, Piece]:
        """The components that have weights, by their folder in the pipeline."""
        names = ("text_encoder", "text_encoder_2")
        encoders = dict(zip(names, self.text_encoders, strict=False))
        models = {**encoders, "unet": self.unet, "vae": self.vae}
        if self.controlnet is not None and self.controlnet.net is not None:
            models["controlnet"] = self.controlnet.net
        return models

    def source(self, name: str, folder: Path = Path()) -> ComponentSource:
        """The component `name` as if it lay in the pipeline folder `folder`."""
        piece = self.models()[name]
        library = "transformers" if name.startswith("text_encoder") else "diffusers"
        return ComponentSource(name, library, piece.class_name, folder / name, piece.config)


@dataclass(frozen=True)
class Decoder:
    """An autoencoder that `--decoder` swaps in.

    Attributes:
        name: Its name in the zoo.
        hub: Ids of the Hub repositories that hold it.
        vae: Its class and config.
        suits: The models whose latents it decodes, in words.
    """

    name: str
    hub: tuple[str, ...]
    vae: Piece
    suits: str
