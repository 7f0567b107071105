"""What a run has seen so far, on the device, and the sampler's rows of it.

It lies in one block of memory with a slot for each: the initial noise first, then a model output
per call, then the fresh noises in the order in which they are drawn. The table of a sampler says
which slots are summed with which weights.

Written without a GPU: run against a stand-in only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...core.sampler import SamplerTable
from .arithmetic import combine
from .buffers import Workspace
from .tensor import Device, Tensor


@dataclass(frozen=True, eq=False)
class Schedule:
    """A compiled sampler for the kernel `combine`.

    Attributes:
        timesteps: What the model is told at each call, `(calls,)`, float32.
        slots: The slots of all rows one after the other, `(terms,)`, int32.
        weights: Their weights, `(terms,)`, float32.
        starts: Where each row begins in them, and where the last one ends, `(calls + 2,)`.
        fresh: The slots of the noises that are drawn after each call.
        scale: What each row is divided by to give the latents.
        count: Number of slots.
    """

    timesteps: NDArray[np.float32]
    slots: NDArray[np.int32]
    weights: NDArray[np.float32]
    starts: tuple[int, ...]
    fresh: tuple[tuple[int, ...], ...]
    scale: tuple[float, ...]
    count: int

    @property
    def calls(self) -> int:
        """Number of model calls."""
        return len(self.timesteps)

    def output_slot(self, call: int) -> int:
        """Where the output of a call goes."""
        return 1 + call


def make_schedule(table: SamplerTable) -> Schedule:
    """Lays a table out.

    The terms of a row have the order of `SamplerTable.row`, whose weights of zero are left out, so
    that the sums are rounded alike; the initial noise is always there.
    """
    slots: list[int] = []
    weights: list[float] = []
    starts = [0]
    for initial, outputs, noise in zip(table.initial, table.outputs, table.noise, strict=True):
        slots.append(0)
        weights.append(initial)
        for first, row in ((1, outputs), (1 + table.calls, noise)):
            used = [(first + index, weight) for index, weight in enumerate(row) if weight != 0.0]
            slots += [slot for slot, _ in used]
            weights += [weight for _, weight in used]
        starts.append(len(slots))
    drawn = np.cumsum([0, *table.draws]) + 1 + table.calls
    return Schedule(
        timesteps=np.array(table.timesteps, np.float32),
        slots=np.array(slots, np.int32),
        weights=np.array(weights, np.float32),
        starts=tuple(starts),
        fresh=tuple(tuple(range(int(start), int(stop))) for start, stop in pairwise(drawn)),
        scale=table.scale,
        count=int(drawn[-1]),
    )


class History:
    """The slots of a `Schedule`, and its arrays, in device memory."""

    def __init__(
        self,
        device: Device,
        workspace: Workspace,
        schedule: Schedule,
        shape: tuple[int, ...],
        noise: Callable[[], NDArray[np.float32]],
    ) -> None:
        """Takes memory, and puts what is known of the schedule there.

        Args:
            device: The GPU.
            workspace: Where its memory comes from.
            schedule: The sampler.
            shape: Of the latents.
            noise: Draws fresh noise of that shape.
        """
        self.schedule = schedule
        self._device, self._workspace, self._noise = device, workspace, noise
        self._shape = shape
        self._slots = workspace.tensor("history", "float32", (schedule.count, *shape))
        self._terms = tuple(
            self._put(name, array)
            for name, array in (("slots", schedule.slots), ("weights", schedule.weights))
        )
        fresh = sum(len(slots) for slots in schedule.fresh)
        # A place for each draw, so that none is written over before it went up.
        self._staging = workspace.staging((1 + fresh, *shape))

    def begin(self, initial: NDArray[np.float32]) -> None:
        """Takes what the table weighs first."""
        self._send(0, 0, initial)

    def slot(self, index: int) -> Tensor:
        """A slot, with the shape of the latents."""
        return self._slots.rows(index, index + 1).reshaped(*self._shape)

    def draw(self, call: int) -> None:
        """Draws the fresh noises that follow a call, and sends them up without waiting."""
        for slot in self.schedule.fresh[call]:
            self._send(slot, slot - self.schedule.calls, self._noise())

    def sample(self, call: int, target: Tensor, copies: int = 1) -> None:
        """The input of a call, `copies` times one after the other, in the dtype of `target`."""
        combine(self._device, target, self._slots, self._row(call), copies=copies)

    def latents(self, row: int, target: Tensor, *, factor: float = 1.0, shift: float = 0.0) -> None:
        """The latents before call `row`, divided by `factor` and shifted as decoders want them."""
        combine(
            self._device,
            target,
            self._slots,
            self._row(row),
            scale=self.schedule.scale[row],
            factor=factor,
            shift=shift,
        )

    def fetch(self, name: str, index: int) -> NDArray[np.float32]:
        """An array of a step, as `denoise.Step` describes it; waits for all work.

        Args:
            name: `sample`, `output` or `latents`.
            index: Number of the call.
        """
        if name == "output":
            return self._device.download(self.slot(self.schedule.output_slot(index)))
        target = self._workspace.tensor("fetched", "float32", self._shape)
        if name == "sample":
            self.sample(index, target)
        else:
            self.latents(index + 1, target)
        return self._device.download(target)

    def _row(self, row: int) -> tuple[Tensor, Tensor]:
        start, stop = self.schedule.starts[row], self.schedule.starts[row + 1]
        slots, weights = (each.rows(start, stop) for each in self._terms)
        return slots, weights

    def _send(self, slot: int, place: int, array: NDArray[np.float32]) -> None:
        # `place` is 0 for the first noise; those that follow count on from 1.
        staged = self._staging[place]
        staged[...] = array
        self._device.upload(self.slot(slot), staged)

    def _put(self, name: str, array: NDArray[np.generic]) -> Tensor:
        tensor = self._workspace.tensor(name, array.dtype.name, array.shape)
        self._device.upload(tensor, array)
        return tensor
