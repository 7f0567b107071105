"""From what the user names to a checkpoint on disk that the exporters understand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.checkpoint import Checkpoint, ComponentSource
from ..core.errors import CheckpointError, choices
from .demo import DEMO_DECODERS, DEMO_MODELS
from .hub import download
from .make import made_checkpoint, made_of
from .zoo import zoo_defaults

# Pipeline class to the shape of its U-Net's conditioning.
FAMILIES: dict[str, str] = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
}

CLASSES: dict[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny"),
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
}

_COMPONENTS: dict[str, tuple[str, ...]] = {
    "sd": ("text_encoder", "unet", "vae"),
    "sdxl": ("text_encoder", "text_encoder_2", "unet", "vae"),
}

# What the diffusers pipelines do where the user says nothing.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "sd": {"steps": 50, "guidance": 7.5, "negative_prompt": None},
    "sdxl": {"steps": 50, "guidance": 5.0, "negative_prompt": None},
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
    "time_cond_proj_dim": None,
    "class_embeddings_concat": False,
    "center_input_sample": False,
}


@dataclass(frozen=True)
class HubOptions:
    """How the Hub is asked: commit or branch, access token, and whether only the cache is used."""

    revision: str | None = None
    token: str | None = None
    offline: bool = False


def load_checkpoint(
    model: str, hub: HubOptions | None = None, decoder: str | None = None
) -> Checkpoint:
    """Finds a model and reads its configs; weights are not touched.

    Args:
        model: A diffusers folder, `demo`, `zoo:NAME`, `zoo:NAME-narrow`, or a Hub id.
        hub: How the Hub is asked.
        decoder: Another VAE to use instead of the pipeline's own: a folder, a Hub id, or
            `demo-tiny` for the demo model's tiny one.

    Raises:
        CheckpointError: It cannot be found, or is no pipeline that kdexport supports.
    """
    hub = hub or HubOptions()
    folder, revision, random = _locate(model, hub)
    checkpoint = read_checkpoint(folder, model=model, revision=revision, random_weights=random)
    if decoder is None:
        return checkpoint
    components = {**checkpoint.components, "vae": _read_decoder(decoder, hub)}
    return replace(checkpoint, components=components, decoder=decoder)


def read_checkpoint(
    folder: Path, *, model: str, revision: str | None = None, random_weights: bool = False
) -> Checkpoint:
    """Reads a diffusers pipeline folder; raises `CheckpointError` where it is none."""
    index = _read_json(folder / "model_index.json", "a diffusers pipeline")
    pipeline_class = index.get("_class_name")
    if pipeline_class not in FAMILIES:
        raise CheckpointError(
            f"'{model}' is a {pipeline_class}, which kdexport cannot export; it exports "
            f"{choices(FAMILIES)}."
        )
    family = FAMILIES[pipeline_class]
    components = {name: _read_component(folder, index, name) for name in _COMPONENTS[family]}
    _require_known_unet(components["unet"].config, model)
    return Checkpoint(
        model=model,
        revision=revision,
        folder=folder,
        pipeline_class=pipeline_class,
        family=family,
        index=index,
        components=components,
        scheduler=_read_json(folder / "scheduler" / "scheduler_config.json", "a scheduler"),
        defaults={
            **_DEFAULTS[family],
            **zoo_defaults(made_of(index) or model),
            **index.get(DEFAULTS_KEY, {}),
        },
        random_weights=random_weights or made_of(index) is not None,
    )


def _locate(model: str, hub: HubOptions) -> tuple[Path, str | None, bool]:
    """Folder, revision and whether the weights are made up."""
    if model in DEMO_MODELS:
        return DEMO_MODELS[model], None, False
    if model.startswith("zoo:"):
        return made_checkpoint(model.removeprefix("zoo:")), None, True
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve(), None, False
    if path.exists():
        raise CheckpointError(
            f"'{model}' is a file; kdexport reads a diffusers folder, a Hub id, zoo:NAME or demo."
        )
    folder, revision = download(model, hub.revision, hub.token, hub.offline)
    return folder, revision, False


def _read_component(folder: Path, index: Mapping[str, Any], name: str) -> ComponentSource:
    entry = index.get(name)
    if not isinstance(entry, list) or len(entry) != 2 or None in entry:
        raise CheckpointError(
            f"The pipeline in '{folder}' names no '{name}' in its model_index.json; complete it "
            "from its base model."
        )
    return _component(folder / name, name, *entry)


def _component(folder: Path, name: str, library: str, class_name: str) -> ComponentSource:
    if class_name not in CLASSES[name]:
        raise CheckpointError(
            f"The '{name}' in '{folder.parent}' is a {class_name}, which kdexport cannot export; "
            f"it exports {choices(CLASSES[name])}."
        )
    config = _read_json(folder / "config.json", f"a {class_name}")
    return ComponentSource(name, library, class_name, folder, config)


def _read_decoder(decoder: str, hub: HubOptions) -> ComponentSource:
    """A VAE from its own folder or repository, or from the `vae` of a pipeline."""
    path = DEMO_DECODERS.get(decoder, Path(decoder).expanduser())
    folder = path.resolve()
    if not path.is_dir():
        folder, _ = download(decoder, hub.revision, hub.token, hub.offline)
    if (folder / "vae").is_dir():
        folder = folder / "vae"
    config = _read_json(folder / "config.json", "a VAE")
    return _component(folder, "vae", "diffusers", str(config.get("_class_name")))


def _require_known_unet(config: Mapping[str, Any], model: str) -> None:
    for option, allowed in _UNET_OPTIONS.items():
        if config.get(option, allowed) != allowed:
            raise CheckpointError(
                f"The U-Net of '{model}' sets {option} to {config[option]!r}, which kdexport "
                f"cannot export; only {allowed!r} is supported."
            )
    if config.get("addition_embed_type") not in (None, "text_time"):
        raise CheckpointError(
            f"The U-Net of '{model}' sets addition_embed_type to "
            f"{config['addition_embed_type']!r}; only null and 'text_time' are supported."
        )


def _read_json(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"'{path.parent}' is not {what}: it has no {path.name}.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"'{path}' is not valid JSON ({error}).") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"'{path}' is not a JSON object, so it is not {what}.")
    return data
