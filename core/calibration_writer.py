"""Writes calibration data sample by sample; `calibration.py` describes and reads it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .calibration import CalibrationRecord, RoleSamples
from .calibration_archive import RECORD_NAME, is_finite, sample_name
from .errors import CalibrationError
from .records import encode

# Upper bound of what an array takes in the file beside its numbers: its header, and its name twice.
ARRAY_OVERHEAD = 512

_UNIX = 3


class CalibrationWriter:
    """An archive that is being written; a context manager.

    The same samples make the same bytes: no member carries a time or a system.
    """

    def __init__(self, path: Path) -> None:
        """Opens `path` for writing."""
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self._timesteps: dict[str, list[float | None]] = {}
        self._bytes: dict[str, int] = {}

    def __enter__(self) -> CalibrationWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._archive.close()

    @property
    def components(self) -> dict[str, RoleSamples]:
        """What was written so far, by role."""
        return {
            role: RoleSamples(
                samples=len(timesteps),
                timesteps=tuple(each for each in timesteps if each is not None),
                bytes=self._bytes[role],
            )
            for role, timesteps in self._timesteps.items()
        }

    def add(self, role: str, feed: Mapping[str, NDArray[Any]]) -> None:
        """Writes a sample.

        Args:
            role: The component.
            feed: What it is fed, by port; `timestep` is a number where there is one.

        Raises:
            CalibrationError: There is NaN or an infinite value in it.
        """
        timesteps = self._timesteps.setdefault(role, [])
        timestep = float(feed["timestep"]) if "timestep" in feed else None
        for port, array in feed.items():
            if not is_finite(array):
                at = "" if timestep is None else f" at timestep {timestep:g}"
                raise CalibrationError(
                    f"The reference in float32 feeds NaN or infinite values to '{port}' of the "
                    f"{role}{at}, so nothing was written; check the weights of the model, or "
                    "change the steps or the guidance."
                )
            self._write_array(sample_name(role, len(timesteps), port), array)
            self._bytes[role] = self._bytes.get(role, 0) + array.nbytes
        timesteps.append(timestep)

    def finish(self, record: CalibrationRecord) -> None:
        """Writes what the data was made from; after this nothing is to be added."""
        text = json.dumps(encode(record), indent=2, ensure_ascii=False, allow_nan=False)
        self._archive.writestr(_member(RECORD_NAME), text + "\n")

    def _write_array(self, name: str, array: NDArray[Any]) -> None:
        # Not ascontiguousarray, which gives numbers an axis.
        array = np.asarray(array, order="C")
        member = _member(f"{name}.npy")
        member.file_size = array.nbytes + ARRAY_OVERHEAD  # whether it needs 64 bits
        with self._archive.open(member, "w") as file:
            npy.write_array(file, array, version=(1, 0), allow_pickle=False)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)  # of 1980-01-01
    member.create_system = _UNIX
    member.external_attr = 0o644 << 16
    return member
