"""The compiled sampler of image to image: the schedule entered later, from a noised picture.

Image to image with a strength below 1 leaves out the first steps of a schedule. What it starts
from is `signal * encoded picture + noise * unit noise`, as the scheduler's `add_noise` has it;
from there on it is a table like any other (see `sampler.py`), whose "initial noise" is that first
latent. Solvers with a memory begin a new one at the start, so every start has a table of its own;
but what a later output does to the latents is mostly the same wherever the run began, so a start
keeps only the columns that differ from those of the full table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BundleError, SamplerError, listing
from .manifest import Manifest
from .sampler import SamplerTable, ten_digits
from .sampler_tail import Column, new_columns, tail, with_columns


@dataclass(frozen=True)
class ImageStart:
    """A run that begins at a later call of a full table, with the calls that are left.

    Attributes:
        signal: Weight of the encoded picture in the first latent.
        noise: Weight of unit-variance noise in the first latent.
        latent: Weight of the first latent in each row of the run, `(calls + 1,)`.
        outputs: The first columns of model output weights, those that differ from the full table:
            column `j` has the rows `j + 1` to `calls`. The others are the full table's.
        fresh: The same for the fresh noises: column `k` has the rows after its draw.
    """

    signal: float
    noise: float
    latent: Column
    outputs: tuple[Column, ...] = ()
    fresh: tuple[Column, ...] = ()

    @property
    def calls(self) -> int:
        """Number of model evaluations."""
        return len(self.latent) - 1

    @classmethod
    def of(cls, table: SamplerTable, signal: float, noise: float, full: SamplerTable) -> ImageStart:
        """Keeps of `table` what `full` does not say.

        Args:
            table: A run of the last calls of `full`, its `initial` that of the first latent.
            signal: See the class.
            noise: See the class.
            full: The table of the whole schedule.

        Raises:
            SamplerError: `table` is no such run: other timesteps, or noise drawn elsewhere.
        """
        end = tail(full, table.calls)
        if (end.timesteps, end.draws) != (table.timesteps, table.draws):
            raise SamplerError(
                "A run of image to image has other timesteps or draws of noise than the end of "
                "the schedule, which the tables of a bundle cannot hold; choose another "
                "scheduler, or export without --with-encoder."
            )
        outputs = new_columns(table.outputs, end.outputs)
        fresh = new_columns(table.noise, end.noise)
        return cls(signal, noise, table.initial, outputs, fresh)

    def table(self, full: SamplerTable) -> SamplerTable:
        """The table of the run; its `initial` is the weight of `first_latent`."""
        end = tail(full, self.calls)
        return SamplerTable(
            timesteps=end.timesteps,
            initial=self.latent,
            outputs=with_columns(end.outputs, self.outputs),
            noise=with_columns(end.noise, self.fresh),
            draws=end.draws,
            scale=end.scale,
        )

    def first_latent(
        self, picture: NDArray[np.float32], noise: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The latent that a run starts from, in float32.

        Args:
            picture: The encoded picture, scaled as latents are, `(images, channels, h, w)`.
            noise: Unit-variance noise of the same shape.
        """
        return np.float32(self.signal) * picture + np.float32(self.noise) * noise

    def to_json(self) -> dict[str, Any]:
        """The start as JSON values; weights keep ten significant digits."""
        return {
            "signal": ten_digits(self.signal),
            "noise": ten_digits(self.noise),
            "latent": _stored(self.latent),
            "outputs": [_stored(column) for column in self.outputs],
            "fresh": [_stored(column) for column in self.fresh],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageStart:
        """Reads what `to_json` wrote."""
        return cls(
            signal=data["signal"],
            noise=data["noise"],
            latent=tuple(data["latent"]),
            outputs=tuple(tuple(column) for column in data["outputs"]),
            fresh=tuple(tuple(column) for column in data["fresh"]),
        )


@dataclass(frozen=True)
class ImageSampler:
    """The starts of a compiled scheduler.

    Attributes:
        name: The name that `--scheduler` takes.
        starts: Number of steps to one start for each step that a run can begin with, in order;
            None where diffusers itself cannot begin there.
    """

    name: str
    starts: Mapping[int, tuple[ImageStart | None, ...]]

    def start(self, steps: int, first: int) -> ImageStart:
        """The run of `steps` that leaves out the first `first` of them.

        Raises:
            SamplerError: There is no such run; the message says what to choose.
        """
        starts = self.starts.get(steps, ())
        found = starts[first] if 0 <= first < len(starts) else None
        if found is None:
            raise SamplerError(
                f"The scheduler '{self.name}' cannot begin at step {first + 1} of {steps}; choose "
                "another strength, another number of steps or another scheduler."
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """The sampler as JSON values."""
        return {
            "name": self.name,
            "starts": {
                str(steps): [None if each is None else each.to_json() for each in starts]
                for steps, starts in self.starts.items()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageSampler:
        """Reads what `to_json` wrote."""
        starts = {
            int(steps): tuple(None if each is None else ImageStart.from_json(each) for each in row)
            for steps, row in data["starts"].items()
        }
        return cls(data["name"], starts)


def load_image_sampler(manifest: Manifest, bundle: Path, name: str) -> ImageSampler:
    """Reads the starts of a sampler; `load_sampler` reads the full tables that they refer to.

    Raises:
        BundleError: The bundle holds none of that name; the message lists those it holds.
    """
    files = {each.name: each.image for each in manifest.samplers if each.image is not None}
    if not files:
        raise BundleError(
            "The bundle holds no samplers that start from a picture; export the model again with "
            "--with-encoder."
        )
    if name not in files:
        raise BundleError(
            f"The scheduler '{name}' of this bundle cannot start from a picture; choose one of "
            f"{listing(files)}."
        )
    text = (bundle / PurePosixPath(files[name])).read_text(encoding="utf-8")
    return ImageSampler.from_json(json.loads(text))


def _stored(column: Column) -> list[float]:
    return [ten_digits(value) for value in column]
