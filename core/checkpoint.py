"""A model to export as a set of folders: what the exporters and the reference both read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CheckpointError, listing


@dataclass(frozen=True)
class ComponentSource:
    """One component of a diffusers pipeline on disk.

    Attributes:
        name: Its name in the pipeline: `unet`, `vae`, `text_encoder`, …
        library: `diffusers` or `transformers`.
        class_name: Class in that library.
        folder: The folder that holds `config.json` and the weights.
        config: What `config.json` says, nulls included.
    """

    name: str
    library: str
    class_name: str
    folder: Path
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A diffusers pipeline on disk.

    Attributes:
        model: What the user named it.
        revision: Commit of the Hub repository, or None.
        folder: The pipeline's folder.
        pipeline_class: Class name of the diffusers pipeline.
        family: `sd` or `sdxl`.
        index: What `model_index.json` says.
        components: The models, by name.
        scheduler: What `scheduler_config.json` says.
        defaults: `steps`, `guidance` and `negative_prompt`, as the model's card recommends or the
            diffusers pipeline has them.
        decoder: The VAE that replaces the pipeline's own, as the user named it, or None.
        random_weights: True where the weights were made up.
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
    random_weights: bool = False

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
