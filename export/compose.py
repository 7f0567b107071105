"""Pipelines put together from several places: a base, a single file, a variant of the weights."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.checkpoint import Checkpoint, ComponentSource
from ..core.errors import (
    CheckpointError,
    CheckpointWarning,
    OptionError,
    choices,
    listing,
)
from ..core.weight_files import find_weight_files
from .narrow import narrow_twin
from .zoo import NARROW_SUFFIX, zoo_entry


def student_folders(folder: Path, names: Collection[str]) -> dict[str, Path]:
    """The components in a folder that is no pipeline: those of a student, or one by itself.

    Args:
        folder: What the user named.
        names: Names of the components to look for.

    Returns:
        The folder of each component; `unet` where `folder` itself has a `config.json`.
    """
    found = {name: folder / name for name in names if (folder / name / "config.json").is_file()}
    if not found and (folder / "config.json").is_file():
        return {"unet": folder}
    return found


def require_matching_text(checkpoint: Checkpoint) -> None:
    """Raises `CheckpointError` where the U-Net cannot read what the text encoders give it."""
    unet = checkpoint.component("unet").config
    wanted = unet.get("cross_attention_dim", 1280)
    given = sum(
        int(checkpoint.component(name).config.get("hidden_size", 512))
        for name in checkpoint.text_encoders
    )
    if wanted != given:
        raise CheckpointError(
            f"The U-Net of '{checkpoint.model}' reads text embeddings of width {wanted}, and its "
            f"base gives {given}; pass the --base that it was distilled from."
        )
    if (unet.get("addition_embed_type") == "text_time") != (checkpoint.family == "sdxl"):
        raise CheckpointError(
            f"The U-Net of '{checkpoint.model}' does not fit into a {checkpoint.pipeline_class}; "
            "pass the --base that it was distilled from."
        )


def single_file_parts(
    file: Path,
    held: Collection[str],
    described: Checkpoint,
    base: Checkpoint | None,
    replaced: Collection[str],
) -> dict[str, ComponentSource]:
    """The components of a single-file checkpoint.

    Args:
        file: The file.
        held: The components that it holds.
        described: The pipeline whose configs describe them.
        base: The pipeline that gives the others, or None.
        replaced: Components that something else takes the place of afterwards.

    Raises:
        CheckpointError: A component is neither in the file nor in the base, or the base is of
            another family than the description.
    """
    if base is not None and base.family != described.family:
        raise CheckpointError(
            f"The base of '{file}' is of the family {base.family} and its config of "
            f"{described.family}; both must describe this model."
        )
    others = {} if base is None else base.components
    missing = {*described.components} - {*held} - {*others} - {*replaced}
    if "unet" not in held:
        raise CheckpointError(
            f"'{file}' holds no U-Net that kdexport knows; name a file that holds a whole model."
        )
    if missing:
        raise CheckpointError(
            f"'{file}' holds no {choices(sorted(missing))}; name a pipeline that does with --base."
        )
    return {
        name: replace(source, file=file) if name in held else others.get(name, source)
        for name, source in described.components.items()
    }


def described_by_zoo(config: str, base: Checkpoint | None) -> Checkpoint:
    """A base pipeline with the configs, scheduler and defaults of a zoo model.

    Args:
        config: `zoo:NAME` or `zoo:NAME-narrow`.
        base: Where the tokenizers lie.

    Raises:
        CheckpointError: The zoo has no such model.
        OptionError: There is no base, or it is a pipeline of another class.
    """
    name = config.removeprefix("zoo:")
    entry = zoo_entry(name.removesuffix(NARROW_SUFFIX))
    if base is None:
        raise OptionError(
            f"'{config}' has no tokenizer, because CLIP's vocabulary is not part of kdexport; "
            "name a pipeline that has it with --base, or one that has everything with --config."
        )
    if base.pipeline_class != entry.pipeline:
        raise OptionError(
            f"'{config}' is a {entry.pipeline} and the base a {base.pipeline_class}; pass another "
            "--base."
        )
    entry = narrow_twin(entry) if name.endswith(NARROW_SUFFIX) else entry
    components = {each: entry.source(each, base.folder) for each in entry.models()}
    return replace(
        base,
        components={each: _with_header(source) for each, source in components.items()},
        scheduler={
            "_class_name": entry.scheduler.class_name,
            **entry.scheduler.config,
            **entry.scheduler_overrides,
        },
        defaults={**base.defaults, **entry.defaults},
    )


def _with_header(source: ComponentSource) -> ComponentSource:
    """The source with what a `config.json` says of its class."""
    header: dict[str, Any] = {"_class_name": source.class_name}
    if source.library == "transformers":
        header = {"architectures": [source.class_name], "model_type": "clip_text_model"}
    return replace(source, config={**header, **source.config})


def with_variant(checkpoint: Checkpoint, variant: str | None) -> dict[str, ComponentSource]:
    """The components of a pipeline, set to read a variant of the weights where there is one.

    Components without it keep their plain weights, after a `CheckpointWarning` that names them.

    Raises:
        CheckpointError: No component has weights of this variant.
    """
    components = dict(checkpoint.components)
    if variant is None:
        return components
    varied = {name: replace(source, variant=variant) for name, source in components.items()}
    found = {name: source for name, source in varied.items() if find_weight_files(source)}
    if not found:
        raise CheckpointError(
            f"No component of '{checkpoint.model}' has weights of the variant '{variant}'; leave "
            "out --variant for the plain ones."
        )
    plain = [name for name in components if name not in found]
    if plain:
        warnings.warn(
            f"'{checkpoint.model}' has no {variant} weights of {listing(plain)}; the plain ones "
            "are read.",
            CheckpointWarning,
            stacklevel=2,
        )
    return {**components, **found}
