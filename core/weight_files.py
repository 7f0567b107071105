"""Which files hold the weights of a component, by the names that diffusers and transformers use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from .checkpoint import ComponentSource
from .errors import WeightsError, choices, listing

SAFETENSORS = ".safetensors"
# What `torch.save` writes.
PICKLES = (".bin", ".ckpt", ".pt", ".pth")

# Safetensors first: pickles are larger than they look, and older.
_NAMES: dict[str, tuple[str, ...]] = {
    "diffusers": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "transformers": ("model.safetensors", "pytorch_model.bin"),
}


def weight_file_names(library: str, variant: str | None) -> Iterator[tuple[str, str]]:
    """The names that a weight file and the index of its shards may have, the preferred first.

    Args:
        library: `diffusers` or `transformers`.
        variant: Such as `fp16`, or None for the plain files.
    """
    part = f".{variant}" if variant else ""
    for name in _NAMES[library]:
        stem, suffix = name.rsplit(".", 1)
        yield f"{stem}{part}.{suffix}", f"{name}.index{part}.json"


def find_weight_files(source: ComponentSource) -> tuple[Path, ...]:
    """The weight files of a component, or none where it has no weights.

    Raises:
        WeightsError: An index of shards is damaged, or shards that it names are missing.
    """
    if source.file is not None:
        return (source.file,)
    for name, index in weight_file_names(source.library, source.variant):
        if (source.folder / name).is_file():
            return (source.folder / name,)
        if (source.folder / index).is_file():
            return _shards(source.folder / index)
    return ()


def weight_files(source: ComponentSource) -> tuple[Path, ...]:
    """The weight files of a component; raises `WeightsError` where it has none."""
    files = find_weight_files(source)
    if files:
        return files
    wanted = choices(name for name, _ in weight_file_names(source.library, source.variant))
    entries = source.folder.iterdir() if source.folder.is_dir() else ()
    found = sorted(path.name for path in entries if path.suffix != ".json")
    variants = sorted({variant for name in found for variant in _variant_of(source.library, name)})
    advice = "complete the checkpoint"
    if variants:
        advice = f"pass --variant {choices(variants)}"
    raise WeightsError(
        f"'{source.folder}' holds no {wanted} (it holds {listing(found) or 'no weights'}); "
        f"{advice}."
    )


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        names = sorted(shard for shard in shards if Path(shard).name == shard)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"'{index}' is no index of shards ({error}); download it again."
        ) from error
    if not names or len(names) < len(shards):
        raise WeightsError(f"'{index}' names files outside its folder, or none; download it again.")
    files = tuple(index.parent / name for name in names)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise WeightsError(
            f"'{index.parent}' lacks the shards {listing(missing)}; download them again."
        )
    return files


def _variant_of(library: str, file: str) -> Iterator[str]:
    """The variant in the name of a weight file, where it has one."""
    for name in _NAMES[library]:
        stem, suffix = name.rsplit(".", 1)
        found = re.fullmatch(rf"{stem}\.(\w[\w-]*?)(-\d+-of-\d+)?\.{suffix}", file)
        if found:
            yield found[1]
