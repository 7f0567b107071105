"""Calibration data: what every component of a pipeline is fed while it draws.

The file is a NumPy archive (`.npz`). Its member `calibration.json` says what it was made from; the
arrays are named `ROLE/SAMPLE/PORT`, by the names of the bundle's ports. `calib/record.py` makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from .calibration_archive import AGAIN, Archive, damaged, is_finite
from .dimensions import evaluate, fits, is_computed
from .errors import CalibrationError, listing
from .records import decode


@dataclass(frozen=True)
class RoleSamples:
    """The samples of one component.

    Attributes:
        samples: How many there are.
        timesteps: The timestep of each, in their order; empty where the component takes none.
        bytes: What their arrays take, in bytes.
    """

    samples: int
    timesteps: tuple[float, ...]
    bytes: int


@dataclass(frozen=True)
class CalibrationRecord:
    """What calibration data was made from.

    Attributes:
        format_version: Version of the file's format.
        kdexport: Version of kdexport that made it.
        model: The model as the user named it.
        weights_sha256: SHA-256 of each weight file that was read, by path.
        architecture: `architecture_digest` of each component, by role.
        family: Shape of the pipeline: `sd` or `sdxl`.
        prompts: The prompts that were drawn.
        seed: What the choice of calls and all noise come from.
        steps: Denoising steps of every run.
        guidance: Guidance scale of the guided prompts.
        height: Image height in pixels.
        width: Image width in pixels.
        components: The samples of each component, by role.
    """

    format_version: int
    kdexport: str
    model: str
    weights_sha256: Mapping[str, str]
    architecture: Mapping[str, str]
    family: str
    prompts: tuple[str, ...]
    seed: int
    steps: int
    guidance: float
    height: int
    width: int
    components: Mapping[str, RoleSamples]


class Calibration:
    """Calibration data on disk, read array by array; a context manager.

    Attributes:
        path: The file.
        record: What it was made from.
    """

    def __init__(self, path: Path, archive: Archive) -> None:
        """Takes an open archive, which stays the caller's where this raises; see `open`."""
        self.path = path
        self._archive = archive
        data = archive.description()
        try:
            self.record = decode(CalibrationRecord, data)
        except (TypeError, ValueError, AttributeError) as error:
            raise damaged(path, error) from error
        self._ports = archive.ports({r: each.samples for r, each in self.record.components.items()})

    @classmethod
    def open(cls, path: Path) -> Calibration:
        """Opens a file that `kdexport calibrate` made.

        Raises:
            CalibrationError: There is none, it is damaged, of a newer format or something else.
        """
        archive = Archive(path)
        try:
            return cls(path, archive)
        except BaseException:
            archive.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._archive.close()

    def __enter__(self) -> Calibration:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def samples(self, role: str) -> Iterator[Mapping[str, NDArray[Any]]]:
        """The samples of a component, each the arrays of its ports by name, in memory one by one.

        Raises:
            CalibrationError: There are none of this component, or one is damaged, or holds NaN or
                infinite values.
        """
        for index, ports in enumerate(self._of(role)):
            yield {port: self._read(role, index, port) for port in ports}

    def require_model(self, architecture: Mapping[str, str], model: str) -> None:
        """Holds the data against a model.

        Args:
            architecture: `architecture_digest` of each component that is to be calibrated.
            model: What the user calls the model.

        Raises:
            CalibrationError: One of them is built otherwise than the one that was recorded.
        """
        recorded = self.record.architecture
        other = [role for role, digest in architecture.items() if recorded.get(role) != digest]
        if other:
            raise CalibrationError(
                f"The calibration data '{self.path}' is of '{self.record.model}' and does not fit "
                f"'{model}', which has another {listing(other)}; record '{model}' with `kdexport "
                "calibrate`."
            )

    def require_ports(self, role: str, shapes: Mapping[str, tuple[int | str, ...]]) -> None:
        """Holds the samples of a component against its inputs, without reading them.

        Args:
            role: The component.
            shapes: The shape of each input, by name; a named dimension may have any size, the same
                at all inputs of a sample.

        Raises:
            CalibrationError: Other inputs were recorded, or one of another shape.
        """
        for index, ports in enumerate(self._of(role)):
            if set(ports) != set(shapes):
                raise CalibrationError(
                    f"The calibration data '{self.path}' has the inputs {listing(sorted(ports))} "
                    f"of the {role}, but the model takes {listing(sorted(shapes))}; {AGAIN}."
                )
            sizes: dict[str, int] = {}
            # Plain names first, for other sizes are computed with them.
            for port in sorted(ports, key=lambda each: is_computed(shapes[each])):
                found = self._archive.shape(role, index, port)
                if not fits(found, shapes[port], sizes):
                    wanted = ", ".join(str(evaluate(size, sizes)) for size in shapes[port])
                    raise CalibrationError(
                        f"The calibration data '{self.path}' is of another shape: '{port}' of the "
                        f"{role} is {found} in sample {index}, but the model takes ({wanted}); "
                        f"{AGAIN}, with this model and size."
                    )

    def _of(self, role: str) -> tuple[tuple[str, ...], ...]:
        if role not in self._ports:
            raise CalibrationError(
                f"The calibration data '{self.path}' has no samples of the {role}, only of "
                f"{listing(self._ports)}; {AGAIN}."
            )
        return self._ports[role]

    def _read(self, role: str, index: int, port: str) -> NDArray[Any]:
        array = self._archive.array(role, index, port)
        if not is_finite(array):
            raise CalibrationError(
                f"The calibration data '{self.path}' has NaN or infinite values in '{port}' of the "
                f"{role}, sample {index}; {AGAIN}."
            )
        return array
