"""OpenVINO behind the runner interface: the ONNX files of a bundle, as they are.

A model is compiled for the shapes that it is fed, when it is first fed them. On two cores that is
1.5 to 1.9 times as fast as one compiled for any shape where layers are small, as those of the model
in the box are, and 1.1 times for the U-Net of BK-SDM-Small.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import OptionError, RunError
from .base import Arrays, Runner, Signature
from .onnx_ports import read_signature
from .openvino_cache import compiled_cache
from .openvino_devices import MIXED, Device, openvino_core
from .openvino_errors import cause, unreadable

# Shapes that a model is kept compiled for; each has the weights once more, laid out for it.
MOST_SHAPES = 2

Shapes = tuple[tuple[int, ...], ...]


class OpenvinoRunner(Runner):
    """One ONNX file in OpenVINO.

    Making the runner checks that the package and the device are there; opening it reads the model,
    running it compiles it.

    Raises:
        OptionError: There is no such precision, or the number of threads is none.
        DependencyError: openvino is not installed.
        ProviderError: OpenVINO does not find the device, or that lacks the precision.
    """

    def __init__(self, model: Path, provider: str = "cpu", threads: int | None = None) -> None:
        """Takes the device, see `Device.of`, and CPU threads, None for OpenVINO's own choice."""
        super().__init__(model)
        self.device = Device.of(provider)
        if self.device.precision == MIXED:
            raise OptionError(
                f"'{provider}' is for a whole bundle; choose what this one model is computed in."
            )
        self.threads = threads
        if threads is not None and threads < 1:
            raise OptionError(f"The number of threads must be at least 1, not {threads}.")
        if threads is not None and self.device.name != "CPU":
            raise OptionError(f"'{provider}' is no CPU; leave the number of CPU threads out.")
        self._core: Any = openvino_core()
        self.device.require(self._core)
        self._model: Any = None
        # Requests by the shapes that they take, the latest used last.
        self._requests: OrderedDict[Shapes, Any] = OrderedDict()

    @classmethod
    def create(cls, model: Path, provider: str, threads: int | None) -> OpenvinoRunner:
        """Makes a runner from the options that every engine shares."""
        return cls(model, provider, threads)

    def _open(self) -> Signature:
        signature = read_signature(self.model)
        try:
            self._model = self._core.read_model(self.model)
        # OpenVINO raises nothing else.
        except RuntimeError as error:
            raise unreadable(self.model, error) from error
        return signature

    def _run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        # It takes a scalar of NumPy for what it is, and strided arrays for something else.
        arrays = {name: np.asarray(array, order="C") for name, array in feed.items()}
        request = self._request(arrays)
        try:
            request.infer(arrays)
        except RuntimeError as error:
            raise RunError(f"OpenVINO failed to run '{self.model}' ({cause(error)}).") from error
        # The request writes its next results to the same memory.
        return {name: np.array(request.get_tensor(name).data) for name in outputs}

    def _close(self) -> None:
        self._requests.clear()
        self._model = None

    def _request(self, feed: Mapping[str, NDArray[Any]]) -> Any:
        """What runs the model on arrays of these shapes."""
        specs = self.describe().inputs
        shapes = tuple(feed[spec.name].shape for spec in specs)
        if shapes not in self._requests:
            while len(self._requests) >= MOST_SHAPES:
                self._requests.popitem(last=False)
            self._requests[shapes] = self._compile({s.name: feed[s.name].shape for s in specs})
        self._requests.move_to_end(shapes)
        return self._requests[shapes]

    def _compile(self, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        settings = self.device.settings(self._core, self.threads)
        try:
            model = self._model.clone()
            model.reshape({name: list(shape) for name, shape in shapes.items()})
            device = self.device
            with compiled_cache(self.model, device.precision, device.name) as cache:
                compiled = self._core.compile_model(model, device.name, settings | cache)
            return compiled.create_infer_request()
        except RuntimeError as error:
            taken = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise RunError(
                f"OpenVINO cannot compile '{self.model}' on '{self.device.name.lower()}' for "
                f"{taken} ({cause(error)})."
            ) from error
