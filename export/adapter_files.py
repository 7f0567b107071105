"""Where the weight files of an adapter lie: on disk or on the Hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.adapters import ADAPTER_CONFIG, Adapter, AdapterFile, AdapterSource
from ..core.errors import CheckpointError, choices, listing
from .adapter_tensors import open_adapter
from .demo import DEMO_ADAPTERS
from .hub import download_files
from .json_file import read_json

# What diffusers fuses adapters into.
ADAPTABLE = ("unet", "text_encoder", "text_encoder_2")

# Standard names in the order in which peft and diffusers look for them.
_PEFT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
_LORA_NAMES = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin")
_SUFFIXES = (".safetensors", ".bin", ".pt")

# `auto_mapping.base_model_class` of an adapter_config.json to the component of that class.
_CLASSES = {
    "UNet2DConditionModel": "unet",
    "CLIPTextModel": "text_encoder",
    "CLIPTextModelWithProjection": "text_encoder_2",
}
# A Hub id, and perhaps a file in its repository.
_HUB_NAME = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[\w.-]+)(/(?P<file>.+))?")
_UNET_NAME = re.compile(r"\.(down_blocks|mid_block|up_blocks)\.")


def find_adapter(
    adapter: Adapter, token: str | None = None, offline: bool = False
) -> AdapterSource:
    """Finds the files of an adapter, on the Hub where the name is neither a file nor a folder.

    Args:
        adapter: The adapter.
        token: Access token of the Hub.
        offline: Use only what the Hub's cache holds.

    Raises:
        CheckpointError: There is no such adapter, or it is not clear which file is meant, or which
            component it adapts.
    """
    path = DEMO_ADAPTERS.get(adapter.model, Path(adapter.model).expanduser())
    # Not resolved: in the Hub's cache a file's name is a link to a blob without one.
    if path.is_file():
        return AdapterSource(adapter, _from_file(path.absolute()))
    if path.is_dir():
        return AdapterSource(adapter, _from_folder(path.absolute(), adapter.model))
    named = _HUB_NAME.fullmatch(adapter.model)
    if named is None or (named["file"] is None and adapter.model.endswith(_SUFFIXES)):
        raise CheckpointError(
            f"There is no adapter '{adapter.model}'; name a file, a folder, a Hub id (owner/name) "
            "or a file of one (owner/name/FILE), and a scale after a colon."
        )
    repository, inner = named["repository"], named["file"]
    folder, revision = download_files(
        repository, adapter.revision, token, offline, _patterns(inner)
    )
    found = replace(adapter, revision=revision)
    if inner is None:
        return AdapterSource(found, _from_folder(folder, adapter.model))
    if not (folder / inner).is_file():
        raise CheckpointError(f"'{repository}' holds no file '{inner}'; look at its list of files.")
    return AdapterSource(found, _from_file(folder / inner))


def _patterns(inner: str | None) -> list[str]:
    """Which files to download: the one that is named, else those with standard names."""
    if inner:
        return [inner, (Path(inner).parent / ADAPTER_CONFIG).as_posix()]
    names = (ADAPTER_CONFIG, *_PEFT_NAMES)
    inside = [f"{component}/{name}" for component in ADAPTABLE for name in names]
    return [*names, *inside, *_LORA_NAMES]


def _from_file(file: Path) -> tuple[AdapterFile, ...]:
    if file.suffix not in _SUFFIXES:
        raise CheckpointError(f"The adapter '{file}' is no {choices(_SUFFIXES)} file.")
    if file.name in _PEFT_NAMES and file.with_name(ADAPTER_CONFIG).is_file():
        return (_peft_file(file.parent, None),)
    return (AdapterFile(file),)


def _from_folder(folder: Path, name: str) -> tuple[AdapterFile, ...]:
    if (folder / ADAPTER_CONFIG).is_file():
        return (_peft_file(folder, None),)
    inside = [each for each in ADAPTABLE if (folder / each / ADAPTER_CONFIG).is_file()]
    if inside:
        return tuple(_peft_file(folder / each, each) for each in inside)
    standard = [folder / each for each in _LORA_NAMES if (folder / each).is_file()]
    found = standard or sorted(folder.glob("*.safetensors"))
    if not found:
        raise CheckpointError(
            f"'{name}' holds no adapter: neither {choices([*_LORA_NAMES, ADAPTER_CONFIG])} nor "
            "another safetensors file; name the file that is meant."
        )
    if len(found) > 1 and not standard:
        names = listing([file.name for file in found])
        raise CheckpointError(f"'{name}' holds several files ({names}); name the one to fuse.")
    return (AdapterFile(found[0]),)


def _peft_file(folder: Path, component: str | None) -> AdapterFile:
    config = read_json(folder / ADAPTER_CONFIG, "an adapter")
    file = next((folder / name for name in _PEFT_NAMES if (folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(
            f"'{folder}' has an {ADAPTER_CONFIG} but no {choices(_PEFT_NAMES)}; download it again."
        )
    return AdapterFile(file, component or _component(config, file), config)


def _component(config: Mapping[str, Any], file: Path) -> str:
    """The component that a PEFT adapter is for, by the class that it was trained on."""
    named = (config.get("auto_mapping") or {}).get("base_model_class")
    if named in _CLASSES:
        return _CLASSES[named]
    if named is None and any(_UNET_NAME.search(key) for key in open_adapter(file).tensors):
        return "unet"
    what = f"adapts a {named}" if named else "does not say which model it adapts"
    raise CheckpointError(
        f"The adapter in '{file.parent}' {what}; kdexport fuses adapters of {choices(_CLASSES)}: "
        f"put its files into a folder named {choices(ADAPTABLE)} and name the folder above."
    )
