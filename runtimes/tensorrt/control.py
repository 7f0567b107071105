"""A ControlNet on the device: its pictures go up once, its residuals go straight to the U-Net.

Written without a GPU: run against a stand-in only.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...core.errors import BundleError
from ..control import Control, control_inputs
from ..plan import Plan
from .arithmetic import Checks, check
from .buffers import Workspace
from .runner import TensorrtRunner
from .tensor import Device, Tensor


class DeviceControl:
    """The ControlNet of one run; `runtimes/control.py` on the device."""

    def __init__(
        self,
        device: Device,
        workspace: Workspace,
        runner: TensorrtRunner,
        plan: Plan,
        control: Control,
        checks: Checks,
    ) -> None:
        """Prepares the pictures and sends them up; `runner` is open and stays so meanwhile."""
        self._device, self._runner, self._checks = device, runner, checks
        self._inputs = [spec.name for spec in runner.describe().inputs]
        self._own: dict[str, Tensor] = {}
        for name, array in control_inputs(control, plan).items():
            dtype = runner.dtype(name)
            self._own[name] = workspace.tensor(name, dtype, array.shape)
            device.upload(self._own[name], array.astype(dtype))

    def __call__(self, feed: Mapping[str, Tensor], unet: TensorrtRunner) -> dict[str, Tensor]:
        """Asks for one run.

        Args:
            feed: The other inputs of the U-Net.
            unet: The U-Net, open.

        Returns:
            The residuals, by the names that they have as inputs of the U-Net.

        Raises:
            BundleError: The U-Net takes residuals of another dtype.
            RunError: The engine failed.
        """
        # An SDXL U-Net may be fed more than its ControlNet takes.
        fed = {name: tensor for name, tensor in feed.items() if name in self._inputs}
        residuals = self._runner.enqueue({**fed, **self._own})
        for name, residual in residuals.items():
            if unet.dtype(name) != residual.dtype:
                raise BundleError(
                    f"The ControlNet's engine gives '{name}' in {residual.dtype}, but the U-Net's "
                    f"takes {unet.dtype(name)}; build both with the same --precision."
                )
            check(self._device, residual, self._checks, "The controlnet")
        return residuals
