"""A diffusers pipeline folder, read: its configs and where its weights lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.checkpoint import Checkpoint, ComponentSource
from ..core.errors import CheckpointError, choices
from .controlnets import is_controlled
from .json_file import read_json
from .make import made_of
from .model_card import card_licence, card_licence_link
from .zoo import zoo_match

INDEX_NAME = "model_index.json"

# Pipeline class to the shape of its U-Net's conditioning.
FAMILIES: dict[str, str] = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionControlNetPipeline": "sd",
    "StableDiffusionXLControlNetPipeline": "sdxl",
    "LatentConsistencyModelPipeline": "sd",
}

CLASSES: dict[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny"),
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "controlnet": ("ControlNetModel",),
}

_COMPONENTS: dict[str, tuple[str, ...]] = {
    "sd": ("text_encoder", "unet", "vae"),
    "sdxl": ("text_encoder", "text_encoder_2", "unet", "vae"),
}

# What the diffusers pipelines do where the user says nothing.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": {"steps": 50, "guidance": 7.5, "negative_prompt": None},
    "StableDiffusionXLPipeline": {"steps": 50, "guidance": 5.0, "negative_prompt": None},
    "StableDiffusionControlNetPipeline": {"steps": 50, "guidance": 7.5, "negative_prompt": None},
    "StableDiffusionXLControlNetPipeline": {"steps": 50, "guidance": 5.0, "negative_prompt": None},
    "LatentConsistencyModelPipeline": {"steps": 4, "guidance": 8.5, "negative_prompt": None},
}

# What a model_index.json may say of steps, guidance and negative prompt.
DEFAULTS_KEY = "_kdexport_defaults"

# U-Net options that the wrappers do not carry over, with the only value that they may have.
_UNET_OPTIONS: dict[str, Any] = {
    "addition_embed_type_num_heads": 64,
    "class_embed_type": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "num_class_embeds": None,
    "class_embeddings_concat": False,
    "center_input_sample": False,
}


def read_checkpoint(
    folder: Path, *, model: str, revision: str | None = None, random_weights: bool = False
) -> Checkpoint:
    """Reads a diffusers pipeline folder; raises `CheckpointError` where it is none."""
    index = read_json(folder / INDEX_NAME, "a diffusers pipeline")
    pipeline_class = index.get("_class_name")
    if pipeline_class not in FAMILIES:
        raise CheckpointError(
            f"'{model}' is a {pipeline_class}, which kdexport cannot export; choose a model that "
            f"is a {choices(FAMILIES)}."
        )
    family = FAMILIES[pipeline_class]
    made_up = random_weights or made_of(index) is not None
    known = zoo_match(model) or zoo_match(made_of(index) or "")
    shipped = read_json(folder / "scheduler" / "scheduler_config.json", "a scheduler")
    # Where the two files disagree, diffusers builds the class that the index names.
    named = index.get("scheduler")
    if isinstance(named, list) and len(named) == 2 and named[1]:
        shipped["_class_name"] = named[1]
    names = _COMPONENTS[family] + (("controlnet",) if is_controlled(pipeline_class) else ())
    components = {name: _read_component(folder, index, name) for name in names}
    require_known_unet(components["unet"].config, model, pipeline_class)
    return Checkpoint(
        model=model,
        revision=revision,
        folder=folder,
        pipeline_class=pipeline_class,
        family=family,
        index=index,
        components=components,
        scheduler={**shipped, **(known.scheduler_overrides if known else {})},
        defaults={
            **_DEFAULTS[pipeline_class],
            **(known.defaults if known else {}),
            **index.get(DEFAULTS_KEY, {}),
        },
        random_weights=made_up,
        licence=None if made_up else licence_of(folder, model),
        licence_link=None if made_up else card_licence_link(folder, model, revision),
    )


def licence_of(folder: Path, model: str) -> str | None:
    """The licence that the card in a folder declares, else the zoo's of the model."""
    known = zoo_match(model)
    return card_licence(folder) or (known.licence if known else None)


def _read_component(folder: Path, index: Mapping[str, Any], name: str) -> ComponentSource:
    entry = index.get(name)
    if not isinstance(entry, list) or len(entry) != 2 or None in entry:
        raise CheckpointError(
            f"The pipeline in '{folder}' names no '{name}' in its model_index.json; complete it "
            "from its base model."
        )
    return read_part(folder / name, name, *entry)


def read_part(folder: Path, name: str, library: str, class_name: str) -> ComponentSource:
    """The component `name` in its own folder; raises `CheckpointError` where its class is unknown.

    Args:
        folder: Holds `config.json`.
        name: Of the component.
        library: Of its class: diffusers or transformers.
        class_name: Its class.
    """
    if class_name not in CLASSES[name]:
        raise CheckpointError(
            f"The '{name}' in '{folder.parent}' is a {class_name}, which kdexport cannot export; "
            f"choose a model with {choices(CLASSES[name])} in its place."
        )
    config = read_json(folder / "config.json", f"a {class_name}")
    return ComponentSource(name, library, class_name, folder, config)


def require_known_unet(config: Mapping[str, Any], model: str, pipeline_class: str) -> None:
    """Raises `CheckpointError` where a U-Net's config asks for what cannot be exported."""
    for option, allowed in _UNET_OPTIONS.items():
        if config.get(option, allowed) != allowed:
            raise CheckpointError(
                f"The U-Net of '{model}' sets {option} to {config[option]!r}, which kdexport "
                f"cannot export; choose a model where it is {allowed!r}."
            )
    if "LatentConsistency" in pipeline_class and config.get("time_cond_proj_dim") is None:
        raise CheckpointError(
            f"'{model}' is a {pipeline_class} whose U-Net has no guidance embedding "
            "(time_cond_proj_dim), which diffusers cannot run; set _class_name in its "
            "model_index.json to StableDiffusionPipeline."
        )
    if config.get("addition_embed_type") not in (None, "text_time"):
        raise CheckpointError(
            f"The U-Net of '{model}' sets addition_embed_type to "
            f"{config['addition_embed_type']!r}, which kdexport cannot export; choose a model "
            "where it is null or 'text_time'."
        )
