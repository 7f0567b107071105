"""Complete pipelines with the exact architecture of a zoo model and made-up weights, offline."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from ..core.checkpoint import ComponentSource
from ..core.errors import BundleError
from ..core.folder import user_cache, whole_folder
from .draw import Draw
from .make_adapter import write_adapter
from .narrow import narrow_decoder, narrow_twin
from .random_weights import draws
from .safetensors_file import write_safetensors
from .skeleton import build_skeleton
from .tokenizer_files import write_tokenizer
from .zoo import NARROW_SUFFIX, zoo_decoder, zoo_entry
from .zoo_types import Decoder, Piece, ZooEntry

_WEIGHT_FILES = {
    "diffusers": "diffusion_pytorch_model.safetensors",
    "transformers": "model.safetensors",
}
# Entries of model_index.json for components that a pipeline may lack.
_ABSENT_SD: dict[str, Any] = {
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
}
_ABSENT: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": _ABSENT_SD,
    "StableDiffusionControlNetPipeline": _ABSENT_SD,
    "StableDiffusionXLPipeline": {
        "feature_extractor": [None, None],
        "force_zeros_for_empty_prompt": True,
        "image_encoder": [None, None],
    },
}
# Where a made-up pipeline has its adapter, which no diffusers pipeline looks for.
ADAPTER_FOLDER = "adapter"
# Raise it when the weights of a given seed change, so that cached checkpoints are made anew.
_RECIPE = 1
_SMALL_FILES = 4 << 20  # bytes to reserve for configs and tokenizers


def make_checkpoint(
    name: str,
    directory: Path,
    *,
    narrow: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Writes a diffusers pipeline folder with random float32 weights.

    Tensors are generated and written one by one, so memory holds no more than the largest of them.
    The same name and seed give the same weights, byte for byte.

    Args:
        name: A model of the zoo.
        directory: The folder to make; it appears when it is complete.
        narrow: Make the small twin that `narrow.py` describes.
        seed: Seed of the weights.
        progress: Called with a line of text before each component is written.

    Raises:
        CheckpointError: The zoo has no model `name`.
        BundleError: `directory` already exists.
        DiskSpaceError: The disk is too small.
    """
    entry = _entry(name, narrow)
    directory = Path(directory)
    _require_absent(directory)
    sources = [entry.source(each, directory) for each in entry.models()]
    tensors = {source.name: _tensors(source) for source in sources}
    needed = sum(_bytes(each) for each in tensors.values()) + _SMALL_FILES
    with whole_folder(directory, needed_bytes=needed) as staging:
        for source in sources:
            if progress is not None:
                size = _bytes(tensors[source.name]) / 1e6
                progress(f"{source.name}: {len(tensors[source.name])} tensors, {size:,.1f} MB")
            _write_component(staging / source.name, source, tensors[source.name], seed)
        if entry.adapter is not None:
            write_adapter(staging / ADAPTER_FOLDER, entry.adapter, entry.source("unet"), seed)
        _write_tokenizers(staging, entry.text_encoders)
        _write_scheduler(staging / "scheduler", entry.scheduler)
        _write_json(staging / "model_index.json", _model_index(entry, name, narrow, seed))


def make_decoder(
    name: str,
    directory: Path,
    *,
    narrow: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Writes a folder with one autoencoder and random float32 weights; see `make_checkpoint`."""
    decoder = _decoder(name, narrow)
    directory = Path(directory)
    _require_absent(directory)
    source = ComponentSource(
        "vae", "diffusers", decoder.vae.class_name, directory, decoder.vae.config
    )
    tensors = _tensors(source)
    if progress is not None:
        progress(f"vae: {len(tensors)} tensors, {_bytes(tensors) / 1e6:,.1f} MB")
    with whole_folder(directory, needed_bytes=_bytes(tensors) + _SMALL_FILES) as staging:
        _write_component(staging, source, tensors, seed)


def made_of(index: Mapping[str, Any]) -> str | None:
    """The zoo model (`zoo:NAME`) that a pipeline was made of, or None where it is a real one.

    Args:
        index: What its `model_index.json` says.
    """
    recipe = index.get("_kdexport_random_weights")
    return None if recipe is None else f"zoo:{recipe['model']}"


def made_checkpoint(name: str) -> Path:
    """The folder of a zoo checkpoint with seed 0, made on first use.

    It lies in the folder that the environment variable KDEXPORT_CACHE names, or else in
    `~/.cache/kdexport`.

    Args:
        name: A model of the zoo, or `NAME-narrow` for its small twin.
    """
    return _made(name, _entry, make_checkpoint)


def made_decoder(name: str) -> Path:
    """The folder of a decoder of the zoo with seed 0, as `made_checkpoint`."""
    return _made(name, _decoder, make_decoder)


def _made(
    name: str,
    find: Callable[[str, bool], ZooEntry | Decoder],
    make: Callable[..., None],
) -> Path:
    model = name.removesuffix(NARROW_SUFFIX)
    narrow = name != model
    folder = _cached(name, asdict(find(model, narrow)))
    if not folder.exists():
        make(model, folder, narrow=narrow)
    return folder


def _entry(name: str, narrow: bool) -> ZooEntry:
    return narrow_twin(zoo_entry(name)) if narrow else zoo_entry(name)


def _decoder(name: str, narrow: bool) -> Decoder:
    return narrow_decoder(zoo_decoder(name)) if narrow else zoo_decoder(name)


def _cached(name: str, row: Mapping[str, Any]) -> Path:
    recipe = json.dumps([_RECIPE, diffusers.__version__, row], sort_keys=True)
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    return user_cache() / "zoo" / f"{name}-{digest}"


def _require_absent(directory: Path) -> None:
    if directory.exists():
        raise BundleError(f"'{directory}' already exists; choose another folder or remove it.")


def _tensors(source: ComponentSource) -> dict[str, Draw]:
    """The tensors of a component by the name that Hub checkpoints give them, sorted."""
    rules = draws(source.class_name, build_skeleton(source, torch.float32))
    return {_hub_name(source, name): rules[name] for name in sorted(rules)}


def _hub_name(source: ComponentSource, name: str) -> str:
    """Adds the prefix that `CLIPTextModel` lost in transformers 5 but checkpoints still carry."""
    if source.class_name == "CLIPTextModel" and not name.startswith("text_model."):
        return f"text_model.{name}"
    return name


def _bytes(tensors: Mapping[str, Draw]) -> int:
    return sum(4 * int(np.prod(each.shape)) for each in tensors.values())


def _write_component(
    folder: Path, source: ComponentSource, tensors: Mapping[str, Draw], seed: int
) -> None:
    folder.mkdir(exist_ok=True)
    _write_json(folder / "config.json", _config(source))
    arrays = (draw.array(seed, source.name, name) for name, draw in tensors.items())
    shapes = {name: draw.shape for name, draw in tensors.items()}
    write_safetensors(folder / _WEIGHT_FILES[source.library], shapes, arrays)


def _config(source: ComponentSource) -> dict[str, Any]:
    """What `config.json` of the component says; diffusers adds the defaults of its class."""
    if source.library == "diffusers":
        module: Any = build_skeleton(source, torch.float32)
        known = inspect.signature(type(module).__init__).parameters
        header = {"_class_name": source.class_name, "_diffusers_version": diffusers.__version__}
        return header | {key: value for key, value in module.config.items() if key in known}
    header = {"architectures": [source.class_name], "model_type": "clip_text_model"}
    return header | {**source.config, "torch_dtype": "float32"}


def _write_tokenizers(folder: Path, encoders: tuple[Piece, ...]) -> None:
    for name, encoder in zip(("tokenizer", "tokenizer_2"), encoders, strict=False):
        (folder / name).mkdir()
        write_tokenizer(folder / name, encoder.config["vocab_size"], str(encoder.pad_token))


def _write_scheduler(folder: Path, scheduler: Piece) -> None:
    folder.mkdir()
    header = {"_class_name": scheduler.class_name, "_diffusers_version": diffusers.__version__}
    _write_json(folder / "scheduler_config.json", {**header, **scheduler.config})


def _model_index(entry: ZooEntry, name: str, narrow: bool, seed: int) -> dict[str, Any]:
    index: dict[str, Any] = {
        "_class_name": entry.pipeline,
        "_diffusers_version": diffusers.__version__,
        "_kdexport_random_weights": {"model": name, "narrow": narrow, "seed": seed},
        **_ABSENT[entry.pipeline],
        "scheduler": ["diffusers", entry.scheduler.class_name],
    }
    for each in entry.models():
        source = entry.source(each)
        index[each] = [source.library, source.class_name]
    for each in ("tokenizer", "tokenizer_2")[: len(entry.text_encoders)]:
        index[each] = ["transformers", "CLIPTokenizer"]
    return index


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
