"""From what the user names to a checkpoint on disk that the exporters understand."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ..core.checkpoint import Checkpoint, ComponentSource
from ..core.errors import CheckpointError, OptionError
from ..core.options import ModelOptions
from .adapter_files import find_adapter
from .clip_skip import require_layers
from .completion import completed, is_add_on, with_made_adapter
from .compose import (
    described_by_zoo,
    require_matching_text,
    single_file_parts,
    student_folders,
    with_variant,
)
from .demo import DEMO_MODELS, with_demo_settings
from .hub import HubOptions, download, download_configs
from .json_file import read_json
from .make import made_checkpoint
from .model_card import card_licence_link
from .pipeline_folder import (
    CLASSES,
    INDEX_NAME,
    licence_of,
    read_checkpoint,
    read_part,
    require_known_unet,
)
from .repair import repair_unet
from .replacements import is_made_up, read_decoder, with_control
from .single_file import held_components, single_file
from .weights import read_tensors


def load_checkpoint(
    model: str, hub: HubOptions | None = None, extra: ModelOptions | None = None
) -> Checkpoint:
    """Finds a model and reads its configs, and of its weights the names and shapes.

    Args:
        model: A diffusers folder, `demo`, `demo-fast`, `zoo:NAME`, `zoo:NAME-narrow`, a Hub id, a
            single-file checkpoint, or a folder or Hub id with a U-Net only; or a Hub id of the zoo
            with an adapter or a ControlNet only.
        hub: How the Hub is asked.
        extra: What completes, describes or replaces parts of the model.

    Raises:
        CheckpointError: It or what is added cannot be found, or is nothing that kdexport supports.
        WeightsError: A weight file is damaged, or has other blocks than its config describes and
            the config cannot be mended.
        OptionError: `extra` names something that this model does not need, or that does not fit it.
    """
    hub, extra = hub or HubOptions(), extra or ModelOptions()
    extra = completed(model, hub.revision, extra)
    checkpoint = _assemble(model, hub, extra)
    extra = with_made_adapter(checkpoint, extra)
    components = with_variant(checkpoint, extra.variant)
    if extra.decoder is not None:
        components["vae"] = read_decoder(extra.decoder, hub)
    components["unet"] = repair_unet(components["unet"])
    adapters = tuple(find_adapter(each, hub.token, hub.offline) for each in extra.adapters)
    whole = replace(
        checkpoint,
        components=components,
        decoder=extra.decoder,
        random_weights=checkpoint.random_weights or is_made_up(extra.decoder),
        base=extra.base,
        config=extra.config,
        variant=extra.variant,
        adapters=adapters,
        clip_skip=extra.clip_skip,
    )
    if extra.clip_skip is not None:
        require_layers(whole, extra.clip_skip)
    return with_control(whole, hub, extra)


def _assemble(model: str, hub: HubOptions, extra: ModelOptions) -> Checkpoint:
    """The pipeline from wherever its parts lie."""
    file = single_file(model)
    if file is not None:
        return _assemble_single_file(file, model, hub, extra)
    if extra.config is not None:
        raise OptionError(
            f"'{model}' is no single file and has configs of its own; leave out --config."
        )
    if extra.base is not None and is_add_on(model, extra):
        base = _read_base(extra.base, model, hub, extra, without=_replaced(extra))
        return with_demo_settings(base)
    folder, revision, random = _locate(model, hub, extra)
    if (folder / INDEX_NAME).is_file() and extra.base is not None:
        raise OptionError(f"'{model}' is a whole pipeline; leave out --base.")
    found = student_folders(folder, CLASSES)
    if not found or (folder / INDEX_NAME).is_file():
        return read_checkpoint(folder, model=model, revision=revision, random_weights=random)
    if extra.base is None:
        raise CheckpointError(
            f"'{model}' has no {INDEX_NAME}, so it is only a part of a pipeline; name the pipeline "
            "that completes it with --base."
        )
    base = _read_base(extra.base, model, hub, extra, without=(*found, *_replaced(extra)))
    parts = {name: _student_part(path, name, base) for name, path in found.items()}
    own = licence_of(folder, model)
    whole = replace(
        base,
        revision=revision,
        components={**base.components, **parts},
        licence=own or base.licence,
        licence_link=card_licence_link(folder, model, revision) if own else base.licence_link,
    )
    require_known_unet(whole.component("unet").config, model, whole.pipeline_class)
    require_matching_text(whole)
    return whole


def _assemble_single_file(
    file: Path, model: str, hub: HubOptions, extra: ModelOptions
) -> Checkpoint:
    """The components that the file holds, as a config describes them, and the rest of a base."""
    if extra.variant is not None:
        raise OptionError(
            f"'{model}' is a single file, so it has no variants; leave out --variant."
        )
    held = held_components(read_tensors(file))
    base = None
    if extra.base is not None:
        base = _read_base(extra.base, model, hub, extra, without=(*held, *_replaced(extra)))
    described = _read_description(file, model, hub, extra, base)
    parts = single_file_parts(file, held, described, base, _replaced(extra))
    return replace(
        described,
        folder=base.folder if base else described.folder,
        revision=None,
        components=parts,
        licence=None,  # The file's own, which no card beside it tells.
        licence_link=None,
        random_weights=base is not None and base.random_weights and not held.issuperset(parts),
    )


def _read_description(
    file: Path, model: str, hub: HubOptions, extra: ModelOptions, base: Checkpoint | None
) -> Checkpoint:
    """The pipeline that says what the components of a single file look like."""
    if extra.config is None:
        if base is None:
            raise CheckpointError(
                f"'{file}' is a single file, which does not say what its model looks like; pass "
                "--config with a diffusers folder or a Hub id, or zoo:NAME beside --base."
            )
        return base
    if extra.config.startswith("zoo:"):
        return described_by_zoo(extra.config, base)
    folder = Path(extra.config).expanduser()
    if not folder.is_dir():
        folder, _ = download_configs(extra.config, None, hub.token, hub.offline)
    return replace(read_checkpoint(folder.resolve(), model=extra.config), model=model)


def _read_base(
    base: str, model: str, hub: HubOptions, extra: ModelOptions, without: Collection[str]
) -> Checkpoint:
    """The pipeline that gives what a model lacks, under the name of the model."""
    # The revision is the model's.
    folder, _, random = _locate(base, replace(hub, revision=None), extra, without)
    return read_checkpoint(folder, model=model, random_weights=random)


def _replaced(extra: ModelOptions) -> tuple[str, ...]:
    """The components that the user puts something else in the place of."""
    return ("vae",) if extra.decoder is not None else ()


def _locate(
    model: str, hub: HubOptions, extra: ModelOptions, without: Collection[str] = ()
) -> tuple[Path, str | None, bool]:
    """Folder, revision and whether the weights are made up; those of `without` are not needed."""
    if model in DEMO_MODELS:
        return DEMO_MODELS[model], None, False
    if model.startswith("zoo:"):
        return made_checkpoint(model.removeprefix("zoo:")), None, True
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve(), None, False
    if path.exists():
        raise CheckpointError(
            f"'{model}' is a file; kdexport reads a diffusers folder, a Hub id, zoo:NAME, demo or "
            "a single-file checkpoint (.safetensors, .ckpt)."
        )
    folder, revision = download(model, hub.revision, hub.token, hub.offline, extra.variant, without)
    return folder, revision, False


def _student_part(folder: Path, name: str, base: Checkpoint) -> ComponentSource:
    """A component that lies in a folder of its own, which alone says of which class it is."""
    config = read_json(folder / "config.json", f"a {name}")
    library = base.component(name).library
    named = config.get("_class_name") or (config.get("architectures") or CLASSES[name])[0]
    return read_part(folder, name, library, str(named))
