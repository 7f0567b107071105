"""Inputs and outputs of an ONNX Runtime session in the memory of its device.

Every input has a buffer of its own, which nothing else is bound to, and ONNX Runtime allocates the
outputs. So an output never lies on the input that it was computed from, as it did in
optimum-onnx 0.1.0, where PNDM and DDIM without guidance then drew wrong pictures. Results leave as
copies: what a sampler keeps is never written to again.

On a GPU: written without a GPU, never executed there; the tests run it in the memory of the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .base import Arrays
from .ort_providers import LOG_ERRORS

# An input is compared with what the device holds up to this many bytes; beyond the processor's
# cache, reading it twice takes as long as sending it.
COMPARED_BYTES = 8 << 20
# Latents differ in their first bytes, which spares reading all of them.
_FIRST = 64
# Both mean "no graph" as -1; plugins took the second name.
_GRAPH_KEYS = ("gpu_graph_id", "cuda_graph_annotation_id")
_NO_GRAPH = "-1"


class DeviceBinding:
    """Runs a session with its tensors in device memory.

    Buffers are allocated once for each set of input shapes and kept, so that shapes in turn cost
    nothing, and that a CUDA graph finds its addresses again.
    """

    def __init__(self, session: Any, device: str, cuda_graphs: bool = False) -> None:
        """Binds nothing yet.

        Args:
            session: An `onnxruntime.InferenceSession`; must outlive this object's last run.
            device: ONNX Runtime's name of the memory: `cpu`, `cuda`.
            cuda_graphs: Capture a graph for each set of shapes; the session's provider must have
                been told so as well.
        """
        self._session = session
        self._device = device
        self._cuda_graphs = cuda_graphs
        self._sets: dict[tuple[Any, ...], _BufferSet] = {}

    @property
    def uploads(self) -> int:
        """How often an input was sent to the device."""
        return sum(each.uploads for one in self._sets.values() for each in one.inputs.values())

    def run(self, feed: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """Runs the session once.

        Args:
            feed: An array for each input, of the dtype that the model takes. One whose bytes are
                those of the call before is not sent again.
            outputs: Names of the outputs wanted.

        Returns:
            Fresh arrays by name.
        """
        shapes = tuple((name, array.shape) for name, array in feed.items())
        key = (*shapes, *outputs)
        if key not in self._sets:
            self._sets[key] = self._bind(feed, outputs, number=len(self._sets) + 1)
        buffers = self._sets[key]
        for name, array in feed.items():
            buffers.inputs[name].write(array)
        buffers.binding.synchronize_inputs()
        self._session.run_with_iobinding(buffers.binding, self._options(buffers))
        buffers.binding.synchronize_outputs()
        buffers.runs += 1
        copies = buffers.binding.copy_outputs_to_cpu()
        return dict(zip(outputs, copies, strict=True))

    def _bind(
        self, feed: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str], number: int
    ) -> _BufferSet:
        import onnxruntime

        binding = self._session.io_binding()
        inputs = {}
        for name, array in feed.items():
            # Not `ortvalue_from_numpy`, which on the CPU lies on the array itself.
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                list(array.shape), array.dtype.type, self._device, 0
            )
            binding.bind_ortvalue_input(name, value)
            inputs[name] = _Input(value)
        for name in outputs:
            # Without an address: ONNX Runtime allocates in the first run, and keeps the buffer.
            binding.bind_output(name, self._device, 0)
        return _BufferSet(binding, inputs, number)

    def _options(self, buffers: _BufferSet) -> Any:
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = LOG_ERRORS
        # The first run allocates the outputs, which the graph's addresses are.
        captured = self._cuda_graphs and buffers.runs > 0
        for key in _GRAPH_KEYS:
            options.add_run_config_entry(key, str(buffers.number) if captured else _NO_GRAPH)
        return options


@dataclass
class _BufferSet:
    """What is bound for one set of shapes.

    Attributes:
        binding: The `onnxruntime.IOBinding`.
        inputs: The buffer of each input.
        number: What its CUDA graph is called.
        runs: Runs so far.
    """

    binding: Any
    inputs: dict[str, _Input]
    number: int
    runs: int = 0


@dataclass
class _Input:
    """An input's device buffer.

    Attributes:
        value: The `onnxruntime.OrtValue` that owns the memory.
        held: The bytes that are in it, or None where they are not known.
        uploads: How often it was written.
    """

    value: Any
    held: npt.NDArray[np.uint8] | None = field(default=None)
    uploads: int = 0

    def write(self, array: npt.NDArray[Any]) -> None:
        """Sends an array, unless the same bytes are there."""
        data = np.asarray(array, order="C")
        # Bytes, for -0.0 equals 0.0 and NaN not even itself.
        raw = data.reshape(-1).view(np.uint8)
        if self.held is not None and _same(self.held, raw):
            return
        self.held = None
        self.value.update_inplace(data)
        self.uploads += 1
        if raw.nbytes <= COMPARED_BYTES:
            self.held = raw.copy()


def _same(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> bool:
    """Whether two arrays of the same size hold the same bytes."""
    return np.array_equal(one[:_FIRST], other[:_FIRST]) and np.array_equal(one, other)
