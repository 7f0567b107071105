"""A model to export as a set of folders: what the exporters and the reference both read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .adapters import AdapterSource
from .errors import CheckpointError, listing

# The output of a text encoder that clip-skip adds where no hidden state serves as it is.
SKIPPED_STATE = "skipped_hidden_state"


@dataclass(frozen=True)
class ComponentSource:
    """One component of a diffusers pipeline on disk.

    Attributes:
        name: Its name in the pipeline: `unet`, `vae`, `text_encoder`, …
        library: `diffusers` or `transformers`.
        class_name: Class in that library.
        folder: The folder that holds `config.json` and the weights.
        config: What `config.json` says, nulls included, but for `repaired`.
        file: The single-file checkpoint that holds the weights instead of `folder`, or None.
        variant: Variant of the weight files in `folder`, such as `fp16`, or None.
        repaired: The settings of `config` that were read off the weights, because `config.json`
            does not describe them.
    """

    name: str
    library: str
    class_name: str
    folder: Path
    config: Mapping[str, Any]
    file: Path | None = None
    variant: str | None = None
    repaired: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ControlSource:
    """How a pipeline is steered by a picture, through its component `controlnet`.

    Attributes:
        model: The ControlNet as the user named it, or None where it is the pipeline's own.
        scale: Default conditioning scale, the factor of the ControlNet's residuals.
        invert: Whether a picture is inverted first, 255 minus each 8-bit value.
    """

    model: str | None
    scale: float
    invert: bool


@dataclass(frozen=True)
class Checkpoint:
    """A diffusers pipeline on disk.

    Attributes:
        model: What the user named it.
        revision: Commit of the Hub repository, or None.
        folder: The pipeline's folder, where the tokenizers lie.
        pipeline_class: Class name of the diffusers pipeline.
        family: `sd` or `sdxl`.
        index: What `model_index.json` says.
        components: The models, by name.
        scheduler: What `scheduler_config.json` says.
        defaults: `steps`, `guidance` and `negative_prompt`, as the model's card recommends or the
            diffusers pipeline has them.
        decoder: The VAE that replaces the pipeline's own, as the user named it, or None.
        base: The pipeline that gave what the model lacks, as the user named it, or None.
        config: The pipeline whose configs describe the model, as the user named it, or None.
        variant: Variant of the weight files that was asked for, or None.
        adapters: What is fused into the weights, in this order.
        clip_skip: Last layers of the text encoders that prompts skip, or None.
        random_weights: True where the weights were made up.
        control: How a picture steers the pipeline, or None where it has no ControlNet.
        licence: Licence of the weights as its card names it, or None where none is known.
        licence_link: Where that card says that the licence can be read, or None.
    """

    model: str
    revision: str | None
    folder: Path
    pipeline_class: str
    family: str
    index: Mapping[str, Any]
    components: Mapping[str, ComponentSource]
    scheduler: Mapping[str, Any]
    defaults: Mapping[str, Any]
    decoder: str | None = None
    base: str | None = None
    config: str | None = None
    variant: str | None = None
    adapters: tuple[AdapterSource, ...] = ()
    clip_skip: int | None = None
    random_weights: bool = False
    control: ControlSource | None = None
    licence: str | None = None
    licence_link: str | None = None

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """Names of the text encoders, in the order in which their outputs are concatenated."""
        return tuple(name for name in self.components if name.startswith("text_encoder"))

    def component(self, name: str) -> ComponentSource:
        """The component `name`; raises `CheckpointError` naming those that there are."""
        if name not in self.components:
            raise CheckpointError(
                f"The pipeline '{self.model}' has no '{name}', only {listing(self.components)}."
            )
        return self.components[name]
