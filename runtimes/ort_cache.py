"""Models as ONNX Runtime lays them out, on disk, so that the next program starts sooner.

Opening a model folds constants, rearranges the weights of convolutions for the processor and packs
those of linear layers: seconds, and a copy of all weights in memory. What is kept has all of that
done, and is mapped: it takes no memory that the system cannot have back, and programs share it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.folder import user_cache, whole_folder
from .model_key import model_key, recorded
from .ort_session import onnxruntime_package
from .processor import processor

# Models that are kept, those that were used last. BK-SDM-Small has three.
MOST_KEPT = 12
# Bytes of a model from which on it is worth it; smaller models open in less than half a second.
SMALLEST = 32 << 20
# Free space that must be there: per byte of the model, and per parameter where the weights are of
# few bits. What is kept has them in float32, some of them twice.
_ROOM, _ROOM_OF_PARAMETER = 2, 8
# Seconds after which what a killed program left unfinished is removed.
_STALE = 24 * 3600

_MODEL, _DATA = "model.onnx", "model.onnx.data"

# Options with which a session saves what it made, and where it has `optimized_model_filepath`.
SAVING = {
    "session.optimized_model_external_initializers_file_name": _DATA,
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
    "session.save_external_prepacked_constant_initializers": "1",
}


def cached_session(
    model: Path, settings: Any, save: Callable[[Path], None], start: Callable[[Path], Any]
) -> Any:
    """A session from what is kept of a model, which is made now where there is nothing.

    It lies in `$KDEXPORT_CACHE/onnxruntime/cpu` (`~/.cache/kdexport` where it is not set), in a
    folder named after the SHA-256 of the model, its weights, the settings, the processor and ONNX
    Runtime's build. What cannot be opened is made anew.

    Args:
        model: The `.onnx` file.
        settings: On what it depends beside the model what ONNX Runtime makes of it, as JSON values.
        save: Saves what ONNX Runtime makes of the model to a path, see `SAVING`.
        start: Makes a session from such a path.

    Returns:
        The `InferenceSession`, or None where nothing is or can be kept: the model is small, the
        processor unknown, the disk nearly full or not to be written to.

    Raises:
        BundleError: The manifest of the bundle around the model cannot be read.
    """
    folder = _folder(model, settings)
    if folder is None:
        return None
    for _ in range(2):
        if not folder.is_dir() and not _write(folder, model, save):
            return None
        try:
            session = start(folder / _MODEL)
        except Exception:  # noqa: BLE001 - damaged, or another program has just removed it
            _remove(folder)
            continue
        with suppress(OSError):
            os.utime(folder)
        return session
    return None


def _folder(model: Path, settings: Any) -> Path | None:
    """Where a model is kept, or None where it is not."""
    here = processor()
    if here is None or not model.is_file() or _size(model) < SMALLEST:
        return None
    runtime = onnxruntime_package()
    manifest, _ = recorded(model)
    build = [here, runtime.__version__, runtime.get_build_info()]
    key = model_key(model, manifest, [settings, build], ())
    return user_cache() / "onnxruntime" / "cpu" / key[:32]


def _write(folder: Path, model: Path, save: Callable[[Path], None]) -> bool:
    """Makes what is kept, whole or not at all; whether it is there now."""
    try:
        with whole_folder(folder, needed_bytes=_needed(model)) as staging:
            save(staging / _MODEL)
        _trim(folder.parent)
    except Exception:  # noqa: BLE001 - opening the model itself says what is wrong with that
        # Or the disk is full or protected, or another program was first.
        return folder.is_dir()
    return True


def _needed(model: Path) -> int:
    _, component = recorded(model)
    parameters = component.parameters if component is not None else 0
    return max(_ROOM * _size(model), _ROOM_OF_PARAMETER * parameters)


def _size(model: Path) -> int:
    """Bytes of a model with its weights, which may lie beside it."""
    files = (model, model.with_name(f"{model.name}.data"))
    return sum(each.stat().st_size for each in files if each.is_file())


def _trim(parent: Path) -> None:
    """Removes the models that were used least lately, and what killed programs left."""
    folders = {each: each.stat().st_mtime for each in parent.iterdir()}
    kept = [each for each in folders if not each.name.startswith(".")]
    kept.sort(key=lambda each: folders[each], reverse=True)
    for each in kept[MOST_KEPT:]:
        _remove(each)
    for each, used in folders.items():
        if each.name.startswith(".") and used < time.time() - _STALE:
            shutil.rmtree(each, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Removes a model at once, so that no program finds half of it."""
    # Another program may have removed it, or hold it open on Windows.
    with suppress(OSError):
        retired = tempfile.mkdtemp(prefix=".old.", dir=folder.parent)
        try:
            folder.rename(Path(retired) / folder.name)
        finally:
            shutil.rmtree(retired, ignore_errors=True)
