"""Weight files read tensor by tensor, never as a whole.

Of safetensors files only the headers are kept. A tensor is read with one positioned read into its
own buffer: a memory map would count every page it touched as resident memory. Pickles are mapped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..core.checkpoint import Checkpoint, ComponentSource
from ..core.errors import WeightsError, listing
from ..core.folder import sha256_of
from ..core.weight_files import PICKLES, weight_files
from .pickles import read_pickle
from .single_file import component_tensors
from .tensors import ReadableTensor

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}

# Buffers that old checkpoints carry and newer classes compute themselves.
_IGNORABLE = re.compile(r"(^|\.)position_ids$")

# Names of the VAE's attention before diffusers 0.12; SD 1.x checkpoints still carry them.
_LEGACY_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: `begin` and `end` in bytes from the start of the file."""

    file: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int

    def read(self) -> NDArray[Any]:
        """Reads the tensor into a new array of `shape` and `dtype`."""
        with self.file.open("rb") as file:
            file.seek(self.begin)
            data = np.fromfile(file, dtype=self.dtype, count=int(np.prod(self.shape)))
        return data.reshape(self.shape)


@dataclass(frozen=True)
class Weights:
    """The tensors of one component, by the name that the current class gives them."""

    tensors: Mapping[str, ReadableTensor]


def read_tensors(file: Path) -> Mapping[str, ReadableTensor]:
    """Opens a weight file; raises `WeightsError` where it is damaged or asks to run code.

    Args:
        file: A safetensors file, or by its suffix a pickle.
    """
    return read_pickle(file) if file.suffix in PICKLES else _read_header(file)


def stored_tensors(source: ComponentSource) -> dict[str, ReadableTensor]:
    """The tensors of a component by the names that its files give them.

    Those of a single-file checkpoint come with the names of diffusers and transformers.

    Raises:
        WeightsError: There are no weight files, one is damaged, or a single file does not hold
            what the config describes.
    """
    stored: dict[str, ReadableTensor] = {}
    for file in weight_files(source):
        stored.update(read_tensors(file))
    return component_tensors(source, stored) if source.file is not None else stored


def open_weights(source: ComponentSource, expected: Mapping[str, tuple[int, ...]]) -> Weights:
    """Opens the weights of a component and holds them against the architecture.

    Args:
        source: The component.
        expected: Shape of every parameter of the module that its config describes.

    Returns:
        The tensors named as in `expected`.

    Raises:
        WeightsError: No weight files, a damaged one, or keys or shapes that do not fit; the
            message names them.
    """
    stored = stored_tensors(source)
    named = {_current_name(name, expected): tensor for name, tensor in stored.items()}
    _require_fit(source, expected, named)
    return Weights({name: named[name] for name in expected})


def weight_hashes(checkpoint: Checkpoint) -> dict[str, str]:
    """SHA-256 of every weight file of a pipeline and its adapters, by `component/file` or file."""
    files = {
        file.name if source.file is not None else f"{name}/{file.name}": file
        for name, source in checkpoint.components.items()
        for file in weight_files(source)
    }
    for number, adapter in enumerate(checkpoint.adapters):
        for each in adapter.files:
            folder = "/".join(filter(None, (f"adapter_{number}", each.component)))
            files |= {f"{folder}/{path.name}": path for path in each.paths}
    return {name: sha256_of(file) for name, file in files.items()}


def _read_header(file: Path) -> dict[str, StoredTensor]:
    """Parses the header of a safetensors file (format: 8-byte length, JSON, data)."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > size:
                raise ValueError("the header is longer than the file")
            header = json.loads(stream.read(length))
        tensors = {}
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = (8 + length + offset for offset in entry["data_offsets"])
                dtype = _DTYPES[entry["dtype"]]
                shape = tuple(entry["shape"])
                if end > size or end - begin != dtype.itemsize * int(np.prod(shape)):
                    raise ValueError(f"the data of {name} is cut off")
                tensors[name] = StoredTensor(file, dtype, shape, begin, end)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"'{file}' is no complete safetensors file ({error}); download it again."
        ) from error
    return tensors


def _current_name(name: str, expected: Mapping[str, tuple[int, ...]]) -> str:
    """The name that the current class gives to a stored tensor, or `name` where it has none."""
    if name in expected:
        return name
    *path, module, kind = name.split(".") if name.count(".") > 1 else ("", name, "")
    candidates = [f"text_model.{name}", name.removeprefix("text_model.")]
    if module in _LEGACY_ATTENTION:
        candidates.append(".".join([*path, _LEGACY_ATTENTION[module], kind]))
    return next((candidate for candidate in candidates if candidate in expected), name)


def _require_fit(
    source: ComponentSource,
    expected: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, ReadableTensor],
) -> None:
    missing = [name for name in expected if name not in stored]
    extra = [name for name in stored if name not in expected and not _IGNORABLE.search(name)]
    reshaped = [
        f"{name} {list(stored[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in stored and stored[name].shape != tuple(shape)
    ]
    problems = [
        f"{len(names)} {what} ({listing(names, most=4)})"
        for names, what in (
            (missing, "missing"),
            (extra, "that the config does not know"),
            (reshaped, "of another shape"),
        )
        if names
    ]
    if problems:
        raise WeightsError(
            f"The weights in '{source.folder}' do not fit its config.json: tensors "
            f"{'; '.join(problems)}; use the config.json that belongs to these weights."
        )
