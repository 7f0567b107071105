"""The archive that calibration data lies in: named arrays and a description, read one by one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from .errors import CalibrationError

RECORD_NAME = "calibration.json"
FORMAT_VERSION = 1

AGAIN = "record it again with `kdexport calibrate`"

_MAGIC = b"PK\x03\x04"
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def sample_name(role: str, index: int, port: str) -> str:
    """Name of an array in the file."""
    return f"{role}/{index:05}/{port}"


def is_finite(array: NDArray[Any]) -> bool:
    """Whether an array holds numbers only."""
    return not np.issubdtype(array.dtype, np.inexact) or bool(np.isfinite(array).all())


def damaged(path: Path, why: object) -> CalibrationError:
    """What is raised where a file is not as it was written."""
    return CalibrationError(
        f"The calibration data '{path}' is cut off or damaged ({why}); copy it again, or {AGAIN}."
    )


class Archive:
    """An open file of calibration data."""

    def __init__(self, path: Path) -> None:
        """Opens a file; raises `CalibrationError` where it is no whole `.npz` file."""
        self._path = path
        self._file = _open(path)
        assert self._file.zip is not None  # only once it is closed
        self._zip = self._file.zip

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def description(self) -> dict[str, Any]:
        """What `calibration.json` says.

        Raises:
            CalibrationError: There is none, or it is damaged or of a newer format.
        """
        if RECORD_NAME not in self._file.files:
            raise CalibrationError(
                f"'{self._path}' is an .npz file without {RECORD_NAME}; name one that `kdexport "
                "calibrate` made."
            )
        try:
            data: dict[str, Any] = json.loads(self._zip.read(RECORD_NAME))
            version = int(data["format_version"])
        except (*_DAMAGED, TypeError) as error:
            raise damaged(self._path, error) from error
        if version > FORMAT_VERSION:
            raise CalibrationError(
                f"The calibration data '{self._path}' has format version {version}, this kdexport "
                f"reads up to {FORMAT_VERSION}; upgrade kdexport or {AGAIN}."
            )
        return data

    def ports(self, counts: Mapping[str, int]) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Names of the ports of every sample, by role.

        Args:
            counts: How many samples there must be of each component, by role.

        Raises:
            CalibrationError: There are not so many.
        """
        found: dict[str, dict[str, list[str]]] = {role: {} for role in counts}
        for name in self._file.files:
            role, _, rest = name.partition("/")
            index, _, port = rest.partition("/")
            if role in found:
                found[role].setdefault(index, []).append(port)
        for role, count in counts.items():
            if sorted(found[role]) != [f"{index:05}" for index in range(count)]:
                raise damaged(self._path, f"it does not hold {count} samples of the {role}")
        return {
            role: tuple(tuple(ports) for _, ports in sorted(samples.items()))
            for role, samples in found.items()
        }

    def array(self, role: str, index: int, port: str) -> NDArray[Any]:
        """Reads an array; raises `CalibrationError` where it is damaged."""
        try:
            array: NDArray[Any] = self._file[sample_name(role, index, port)]
        except _DAMAGED as error:
            raise damaged(self._path, error) from error
        return array

    def shape(self, role: str, index: int, port: str) -> tuple[int, ...]:
        """Shape of an array, which is not read; raises `CalibrationError` where it is damaged."""
        try:
            with self._zip.open(f"{sample_name(role, index, port)}.npy") as file:
                version = npy.read_magic(file)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape: tuple[int, ...] = read(file)[0]
        except _DAMAGED as error:
            raise damaged(self._path, error) from error
        return shape


def _open(path: Path) -> NpzFile:
    if not path.is_file():
        raise CalibrationError(
            f"There is no calibration data '{path}'; make it with `kdexport calibrate MODEL -o "
            f"{path.name}`."
        )
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise CalibrationError(
                f"'{path}' is no .npz file; name one that `kdexport calibrate` made."
            )
        # First on a file of our own: where `np.load` fails on one, it leaves it open.
        if not zipfile.is_zipfile(file):
            raise damaged(path, "its end is missing")
    try:
        archive = np.load(path, allow_pickle=False)
    except _DAMAGED as error:
        raise damaged(path, error) from error
    assert isinstance(archive, NpzFile)
    return archive
