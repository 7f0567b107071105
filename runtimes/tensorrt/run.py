"""One run of the loop on the device, call by call.

Written without a GPU: run against a stand-in only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...core.errors import RunError
from ...core.manifest import Latents
from ..plan import Plan
from .arithmetic import Checks, guide, place
from .buffers import Workspace
from .control import DeviceControl
from .history import History
from .runner import TensorrtRunner
from .tensor import Device, Tensor


class Run:
    """Calls the U-Net, and a ControlNet before it, with what lies on the device.

    Attributes:
        plan: What is drawn.
    """

    def __init__(
        self,
        device: Device,
        workspace: Workspace,
        plan: Plan,
        history: History,
        checks: Checks,
    ) -> None:
        """Takes what was prepared.

        Args:
            device: The GPU.
            workspace: Where memory for inputs comes from.
            plan: What to draw.
            history: Where the run puts what it sees.
            checks: Where values that are not finite are written down.
        """
        self.plan = plan
        self._device, self._workspace = device, workspace
        self._history, self._checks = history, checks
        self._timesteps: Tensor | None = None
        self._alive = True

    def begin(self, initial: NDArray[np.float32]) -> None:
        """Takes what the sampler's table weighs first, the shape of the latents."""
        self._history.begin(initial)

    def call(
        self,
        index: int,
        unet: TensorrtRunner,
        conditioning: Mapping[str, Tensor],
        control: DeviceControl | None,
    ) -> None:
        """Asks for one call of the model, guidance and the noise after it.

        Args:
            index: Number of the call.
            unet: The open U-Net.
            conditioning: Its inputs beside latents and timestep.
            control: The ControlNet, or None where the bundle has none.

        Raises:
            RunError: An engine failed, or another run was begun.
        """
        self._resume()
        images, *sizes = self.plan.latent_shape
        copies = 2 if self.plan.guided else 1
        sample = self._workspace.tensor("sample", unet.dtype("sample"), (copies * images, *sizes))
        self._history.sample(index, sample, copies)
        feed = {**conditioning, "sample": sample, "timestep": self._timestep(index, unet)}
        if control is not None:
            feed |= control(feed, unet)
        raw = unet.enqueue(feed)["out_sample"]
        self._keep(index, raw)
        self._history.draw(index)

    def require_finite(self) -> None:
        """Waits for all work; raises `RunError` where a result was not finite."""
        self._checks.require_finite()

    def fetch(self, name: str, index: int) -> NDArray[np.float32]:
        """An array of a step, as `denoise.Step` describes it; waits for all work.

        Raises:
            RunError: The run's memory may hold something else by now, or a result was not finite.
        """
        self._resume()
        array = self._history.fetch(name, index)
        self.require_finite()
        return array

    def scaled(self, index: int, dtype: str, space: Latents) -> Tensor:
        """The latents after a call as a decoder takes them; raises as `fetch` does."""
        self._resume()
        target = self._workspace.tensor("scaled", dtype, self.plan.latent_shape)
        factor, shift = space.scaling_factor, space.shift_factor
        self._history.latents(index + 1, target, factor=factor, shift=shift)
        return target

    def close(self) -> None:
        """Ends the run: it goes no further, and its steps can fetch nothing more."""
        self._alive = False

    def _keep(self, index: int, raw: Tensor) -> None:
        """Puts the output of a call into its slot, guided."""
        schedule = self._history.schedule
        name = f"The U-Net at call {index + 1} of {schedule.calls}"
        output = self._history.slot(schedule.output_slot(index))
        if self.plan.guided:
            guide(self._device, output, raw, self.plan.guidance, self._checks, name)
        else:
            target, source = (each.reshaped(1, each.size) for each in (output, raw))
            place(self._device, target, source, self._checks, name)

    def _timestep(self, index: int, unet: TensorrtRunner) -> Tensor:
        """The timestep, at an address that stays the same, as graphs want it."""
        dtype = unet.dtype("timestep")
        if self._timesteps is None:
            steps = self._history.schedule.timesteps.astype(dtype)
            self._timesteps = self._workspace.tensor("timesteps", dtype, steps.shape)
            self._device.upload(self._timesteps, steps)
        target = self._workspace.tensor("timestep", dtype, ())
        self._device.copy(target, self._timesteps.rows(index, index + 1).reshaped())
        return target

    def _resume(self) -> None:
        if not self._alive:
            raise RunError(
                "Another picture was begun or the pipeline was closed, which ended this run; ask "
                "for the arrays of its steps before that, and draw one picture at a time."
            )
        # Whoever took the last step may have used another GPU since.
        self._device.make_current()


class DeviceArrays:
    """The arrays of a step, fetched from the device when they are first asked for."""

    def __init__(self, run: Run, index: int) -> None:
        """Fetches nothing.

        Args:
            run: The run, whose memory holds them.
            index: Number of the call.
        """
        self.run, self.index = run, index

    @cached_property
    def sample(self) -> NDArray[np.float32]:
        """What the U-Net was fed."""
        return self.run.fetch("sample", self.index)

    @cached_property
    def output(self) -> NDArray[np.float32]:
        """What it gave, after guidance."""
        return self.run.fetch("output", self.index)

    @cached_property
    def latents(self) -> NDArray[np.float32]:
        """The latents after the call."""
        return self.run.fetch("latents", self.index)
