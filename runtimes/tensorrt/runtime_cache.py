"""What TensorRT for RTX compiled on this machine, kept from one start to the next.

Engines of TensorRT for RTX are finished by a just-in-time compiler on the GPU that runs them. What
it made lies in `.rtx_cache` in the bundle, or where that cannot be written in the user's cache
folder. The library itself refuses a file of another GPU, driver or version.

Written without a GPU: the files were written and read for real, the library's part is a stand-in.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...core.folder import user_cache
from ...core.manifest import RUNTIME_CACHE
from .select import Machine


def cache_name(key: str, machine: Machine) -> str:
    """Name of the file for an engine on a machine.

    Args:
        key: `EngineRecord.key`, which holds everything that determines the engine.
        machine: GPU, driver and version of TensorRT for RTX.
    """
    where = "\n".join((key, machine.gpu, machine.target, machine.driver, machine.tensorrt))
    return f"{sha256(where.encode()).hexdigest()[:32]}.bin"


def cache_folders(bundle: Path) -> tuple[Path, ...]:
    """Where the files of a bundle may lie, the first choice first."""
    return bundle / RUNTIME_CACHE, user_cache() / "rtx"


class RuntimeCache:
    """The cache of one engine, which all of its execution contexts share; it must outlive them."""

    def __init__(self, config: Any, name: str, folders: tuple[Path, ...]) -> None:
        """Reads the cache where there is one, and puts it into a runtime configuration.

        Args:
            config: The engine's, from which its contexts are made afterwards.
            name: See `cache_name`.
            folders: See `cache_folders`.
        """
        self._name = name
        self._folders = folders
        self._saved: str | None = None
        self._cache = config.create_runtime_cache()
        self._load()
        if config.set_runtime_cache(self._cache) is False:
            warnings.warn(
                "TensorRT for RTX takes no cache of what it compiles, so each start compiles "
                "again; install another version of it.",
                stacklevel=2,
            )

    def save(self) -> None:
        """Writes the cache where it has changed, whole or not at all.

        Warns where no folder can be written: the next start then compiles again.
        """
        held = self._cache.serialize()
        if held is None:
            return
        blob = bytes(memoryview(held))
        digest = sha256(blob).hexdigest()
        if digest == self._saved:
            return
        self._saved = digest
        problems = []
        for folder in self._folders:
            try:
                write_whole(folder / self._name, blob)
            except OSError as error:
                problems.append(f"'{folder}': {error.strerror or error}")
            else:
                return
        warnings.warn(
            "What TensorRT for RTX compiled cannot be kept, so every start compiles again "
            f"({'; '.join(problems)}); make one of these folders writable, or set KDEXPORT_CACHE.",
            stacklevel=2,
        )

    def _load(self) -> None:
        """Takes the first file there is; one that the library refuses is made anew."""
        for folder in self._folders:
            path = folder / self._name
            try:
                blob = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                warnings.warn(
                    f"'{path}' cannot be read ({error.strerror or error}), so TensorRT for RTX "
                    "compiles again; remove the file.",
                    stacklevel=2,
                )
                continue
            if self._cache.deserialize(blob):
                self._saved = sha256(blob).hexdigest()
                return
            warnings.warn(
                f"TensorRT for RTX does not take '{path}', which is damaged or of another system; "
                "it compiles again and replaces the file.",
                stacklevel=2,
            )


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that appears whole or not at all; raises `OSError` where it cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # Others who use the bundle read it, too.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
