"""Built engines, kept in a folder and used again for the same request."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from ...core.errors import BundleError, DiskSpaceError
from ...core.folder import sha256_of, user_cache, whole_folder
from .build import build_engine
from .key import engine_key
from .libraries import library_version
from .monitor import Progress
from .request import EngineRequest

_ENGINE, _RECORD = "engine", "record.json"

# Code for the GPU and the description of the network, which come to an engine beside its weights.
_CODE_BYTES = 64 << 20


def cache_folder() -> Path:
    """Where engines are kept, by their keys."""
    return user_cache() / "engines"


def engine_bytes(onnx_bytes: int) -> int:
    """Estimate of the size of an engine, from that of its ONNX file and weights."""
    return onnx_bytes + _CODE_BYTES


def cached_engine(request: EngineRequest, output: Path, progress: Progress) -> bool:
    """Puts an engine at `output`, built now or taken from the cache; whole or not at all.

    Args:
        request: What is wanted.
        output: The file; an earlier one is replaced. It may share its bytes on disk with the cache.
        progress: Told how far the build is, 0 to 1; what it raises ends it.

    Returns:
        Whether it was in the cache.

    Raises:
        KdexportError: See `build_engine`.
        BundleError: Nothing can be written to the cache.
        DiskSpaceError: The disk of the cache is too small for it.
    """
    entry = cache_folder() / engine_key(request, library_version(request.kind))
    if _taken(entry, output):
        return True
    try:
        _build(request, entry, output, progress)
    except OSError:
        # Two builds of one engine that end at once are in each other's way; either's will do.
        if not _taken(entry, output):
            raise
    except (BundleError, DiskSpaceError) as error:
        raise type(error)(
            f"{str(error).rstrip('.')}; it is the cache of engines, which the variable "
            "KDEXPORT_CACHE puts elsewhere."
        ) from error
    return False


def _taken(entry: Path, output: Path) -> bool:
    """Puts the engine of a whole entry at `output`; whether there is one."""
    try:
        if not _is_whole(entry):
            return False
        _place(entry / _ENGINE, output)
    except FileNotFoundError:
        # Another process is replacing the entry.
        return False
    return True


def _build(request: EngineRequest, entry: Path, output: Path, progress: Progress) -> None:
    needed = engine_bytes(request.graph.bytes)
    with whole_folder(entry, needed_bytes=needed, overwrite=True) as staging:
        build_engine(request, staging / _ENGINE, progress)
        record = {
            "sha256": sha256_of(staging / _ENGINE),
            "bytes": (staging / _ENGINE).stat().st_size,
            "role": request.role,
            "target": request.target,
        }
        (staging / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        # From here, where no other process replaces it.
        _place(staging / _ENGINE, output)


def _is_whole(entry: Path) -> bool:
    """Whether an entry of the cache is there and has the bytes that were written."""
    engine, record = entry / _ENGINE, entry / _RECORD
    if not (engine.is_file() and record.is_file()):
        return False
    try:
        said = json.loads(record.read_text(encoding="utf-8"))
        same = (said["bytes"], said["sha256"]) == (engine.stat().st_size, sha256_of(engine))
    except (ValueError, KeyError, TypeError):
        # A record that was cut off is as good as none: the engine is built again.
        return False
    return same


def _place(engine: Path, output: Path) -> None:
    """Links or copies an engine to `output`, which is whole at any time."""
    output.parent.mkdir(parents=True, exist_ok=True)
    staging = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        try:
            os.link(engine, staging)
        except OSError:
            # Another volume, or one without links.
            shutil.copyfile(engine, staging)
        # Does nothing where `output` is this file already, and leaves the link behind.
        staging.replace(output)
    finally:
        staging.unlink(missing_ok=True)
