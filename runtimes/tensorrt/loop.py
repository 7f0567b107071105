"""The denoising loop on the GPU: from the token ids to the pixels nothing comes down.

Up go token ids, seeded noise and a few numbers per picture; text embeddings, latents and model
outputs stay where they are made. A `Step` fetches its arrays when it is asked for them, by
evaluating its row of the sampler's table again: everything that a row is made of stays on the
device until the next picture. The arithmetic is that of `runtimes/denoise.py` in the same order.

Written without a GPU: run in full, but on a stand-in for CUDA and TensorRT that computes with the
host's memory and ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.errors import RunError
from ...core.image_sampler import ImageStart
from ...core.manifest import EngineRecord, Manifest
from ...core.sampler import SamplerTable
from ..components import Components
from ..denoise import Step, first_latents
from ..loop import Loop
from ..noise import TorchNoise
from ..plan import Plan
from .arithmetic import Checks
from .buffers import Workspace
from .control import DeviceControl
from .history import History, make_schedule
from .limits import check_plan
from .pace import Pace
from .pixels import decode_tensor
from .run import DeviceArrays, Run
from .runner import RunnerMaker, TensorrtRunner, as_tensorrt
from .session import Session
from .tensor import Device
from .texts import TextEncoder

# Calls that may be asked for before the first of them is done: enough to keep a GPU busy, and few
# enough that progress is told as it is made and cancelling is quick.
_AHEAD = 2


def make_loop(
    manifest: Manifest,
    bundle: Path,
    engines: Sequence[EngineRecord],
    provider: str,
    low_memory: bool,
) -> DeviceLoop:
    """Makes the loop of a bundle whose engines run on this machine; nothing is loaded.

    Args:
        manifest: Of the bundle.
        bundle: Its folder.
        engines: One for each component.
        provider: What they run on, see `machine.Provider`.
        low_memory: Keep each engine on the GPU only while it is used.

    Raises:
        BundleError: A tokenizer cannot be read.
    """
    make = RunnerMaker(bundle, engines, provider)
    components = Components(manifest, make, low_memory)
    return DeviceLoop(manifest, bundle, components, make.record("unet"), make.session)


class DeviceLoop(Loop):
    """Draws with TensorRT engines that share a session."""

    def __init__(
        self,
        manifest: Manifest,
        bundle: Path,
        components: Components,
        unet: EngineRecord,
        session: Session,
    ) -> None:
        """Takes the closed components.

        Args:
            manifest: Of the bundle.
            bundle: Its folder.
            components: Runners of one `RunnerMaker`.
            unet: The engine of the U-Net.
            session: That of the runners.

        Raises:
            BundleError: A tokenizer cannot be read.
        """
        super().__init__(manifest, bundle, components)
        self._unet, self._session = unet, session
        self._memory: Workspace | None = None
        self._run: Run | None = None

    def open(self) -> None:
        """Opens the GPU and the engines; raises as `Session.acquire` and `Runner.open` do."""
        self._session.acquire()
        try:
            self._memory = Workspace(self._session.opened.device)
            super().open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Frees everything; steps can fetch nothing more."""
        memory, self._memory = self._memory, None
        with ExitStack() as stack:
            if memory is not None:
                stack.callback(self._session.release)
                stack.callback(memory.close)
            stack.callback(super().close)
            self._end_run()

    def check(self, plan: Plan) -> None:
        """Raises `OptionError` where the engines' profile does not allow a plan."""
        check_plan(plan, self._manifest, self._unet)

    def run(
        self, plan: Plan, table: SamplerTable, start: ImageStart | None
    ) -> Generator[Step, None, None]:
        """See `Loop.run`.

        What is not finite is found when a step's arrays are asked for, or at the last step. Another
        run ends this one.
        """
        device, memory = self._device(), self._workspace()
        checks = Checks(device, memory.tensor("failed", "int32", (1,)))
        stream = TorchNoise(plan.seed)
        run = self._begin(plan, table, stream, checks)
        texts = TextEncoder(device, memory, self._manifest.component("unet"), checks)
        conditioning = texts.encode(plan, self._manifest, self.components, self._tokenizers)
        # Drawn while the texts are being encoded.
        run.begin(first_latents(stream, plan, self._picture(plan, start)))
        with ExitStack() as stack:
            control = None
            if plan.control is not None:
                net = self._use(stack, "controlnet")
                control = DeviceControl(device, memory, net, plan, plan.control, checks)
            unet = self._use(stack, "unet")
            with Pace(device, _AHEAD) as pace:
                for index in range(table.calls):
                    run.call(index, unet, conditioning, control)
                    pace.step()
                    if index + 1 == table.calls:
                        run.require_finite()
                    arrays = DeviceArrays(run, index)
                    yield Step(index, table.calls, table.timesteps[index], plan, arrays)

    def decode(self, latents: NDArray[np.float32] | Step) -> NDArray[np.uint8]:
        """See `Loop.decode`; the latents of the last run's steps stay on the device."""
        arrays = latents.arrays if isinstance(latents, Step) else None
        if not isinstance(arrays, DeviceArrays) or arrays.run is not self._run:
            return super().decode(latents)
        device, memory = self._device(), self._workspace()
        with ExitStack() as stack:
            decoder = self._use(stack, "vae_decoder")
            dtype = decoder.dtype("latent_sample")
            scaled = arrays.run.scaled(arrays.index, dtype, self._manifest.latents)
            pixels = decode_tensor(device, memory, decoder, scaled)
        arrays.run.require_finite()
        return pixels

    def _begin(self, plan: Plan, table: SamplerTable, stream: TorchNoise, checks: Checks) -> Run:
        """Takes the memory of a run, which ends the one before."""
        self._end_run()
        device, memory = self._device(), self._workspace()
        shape = plan.latent_shape
        noise = partial(stream.normal, shape)
        history = History(device, memory, make_schedule(table), shape, noise)
        self._run = Run(device, memory, plan, history, checks)
        return self._run

    def _use(self, stack: ExitStack, role: str) -> TensorrtRunner:
        return as_tensorrt(stack.enter_context(self.components.use(role)))

    def _device(self) -> Device:
        return self._session.opened.device

    def _workspace(self) -> Workspace:
        if self._memory is None:
            raise RunError("The pipeline was closed; load the bundle again.")
        return self._memory

    def _end_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.close()
