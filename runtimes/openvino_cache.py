"""Compiled models of OpenVINO on disk, so that the next program that draws starts sooner."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.folder import user_cache
from .model_key import model_key, recorded

# Compiled models that are kept of one file, of the shapes that were compiled last. Each has the
# weights in it, as large as in the file.
MOST_KEPT = 4
# The CPU compiles a large model about as fast as it reads one back, with less memory: to its first
# picture BK-SDM-Small takes 44 seconds without the cache and 40 with it in float32, 23 and 26 in
# bfloat16, and 2.5 GB less. Other devices compile for minutes.
_LARGEST_ON_CPU = 256 << 20
# Free space that must be there for one, as a multiple of the size of the weights.
_ROOM = 2


@contextmanager
def compiled_cache(model: Path, precision: str, device: str) -> Iterator[dict[str, str]]:
    """Yields the settings with which OpenVINO keeps what it compiles in the block.

    It lies in `$KDEXPORT_CACHE/openvino` (`~/.cache/kdexport` where it is not set), in a folder
    named after the SHA-256 of the model, its weights, the precision, which OpenVINO does not tell
    apart, and its version. It does tell shapes and processors apart, and compiles anew what it
    finds damaged. Where the disk is nearly full, or nothing can be written there, nothing is kept,
    and nothing of large models on the CPU.

    Args:
        model: The `.onnx` file.
        precision: What it computes in.
        device: OpenVINO's name of the device.
    """
    folder = _folder(model, precision, device)
    if folder is None:
        yield {}
        return
    yield {"CACHE_DIR": str(folder)}
    kept = sorted(folder.glob("*.blob"), key=lambda each: each.stat().st_mtime, reverse=True)
    for blob in kept[MOST_KEPT:]:
        # Another program may have deleted it, or hold it open on Windows.
        with suppress(OSError):
            blob.unlink()


def _folder(model: Path, precision: str, device: str) -> Path | None:
    files = (model, model.with_name(f"{model.name}.data"))
    size = sum(each.stat().st_size for each in files if each.is_file())
    if device == "CPU" and size > _LARGEST_ON_CPU:
        return None
    manifest, _ = recorded(model)
    key = model_key(model, manifest, precision, ["openvino"])
    folder = user_cache() / "openvino" / key[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return folder if shutil.disk_usage(folder).free >= _ROOM * size else None
    except OSError:
        return None
