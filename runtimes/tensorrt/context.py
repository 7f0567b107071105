"""TensorRT execution contexts, each with one set of shapes for good.

Written without a GPU: run against a stand-in with the same functions only.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...core.errors import RunError, listing
from .buffers import Buffer
from .graphs import Replay
from .tensor import Tensor

if TYPE_CHECKING:
    from .session import Opened

# TensorRT wants addresses that are multiples of this; `cudaMalloc` gives nothing else.
ALIGNMENT = 256


class ShapedContext:
    """Runs an engine with the shapes that it was made for.

    Attributes:
        outputs: The shape of each output.
    """

    def __init__(
        self,
        context: Any,
        shapes: Mapping[str, tuple[int, ...]],
        outputs: Sequence[str],
        file: str,
        opened: Opened,
    ) -> None:
        """Sets the shapes.

        Args:
            context: A new execution context without memory.
            shapes: The shape of each input, inside the profile.
            outputs: Names of the outputs.
            file: The engine, for messages.
            opened: The session's device and messages.

        Raises:
            RunError: TensorRT refuses the shapes.
        """
        self._context, self._file, self._opened = context, file, opened
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise RunError(
                    f"TensorRT does not take the shape {shape} for '{name}' of '{file}'"
                    f"{opened.why()}; build the engine with another --profile."
                )
        try:
            unknown = context.infer_shapes()
        except RuntimeError as error:
            raise RunError(
                f"TensorRT cannot tell the shapes of '{file}' ({error}){opened.why()}; build the "
                "engine again with another --profile."
            ) from error
        if unknown:
            raise RunError(
                f"TensorRT cannot tell the shapes of {listing(unknown)} of '{file}'{opened.why()}; "
                "build the engine again from an ONNX file of kdexport."
            )
        self.outputs = {name: tuple(context.get_tensor_shape(name)) for name in outputs}
        self._replay = Replay(opened.device, f"'{file}'", self._capturable)

    def run(self, tensors: Mapping[str, Tensor], activation: Buffer) -> bool:
        """Asks for one run.

        Args:
            tensors: Every input and output.
            activation: Memory for what is between them.

        Returns:
            Whether it was the first run with these addresses.

        Raises:
            RunError: TensorRT or CUDA refused.
        """
        bound = (activation.address, *((name, each.address) for name, each in tensors.items()))
        first = False

        def bind() -> None:
            nonlocal first
            first = True
            self._use(activation)
            for name, tensor in tensors.items():
                self._bind(name, tensor)

        self._replay.run(bound, bind, self._enqueue)
        return first

    def close(self) -> None:
        """Frees the graph and the context, after the work that they still do."""
        try:
            self._opened.device.synchronize()
            self._replay.close()
        finally:
            self._context = None

    def _use(self, activation: Buffer) -> None:
        # TensorRT 8.6 and 9 only know the address.
        if hasattr(self._context, "set_device_memory"):
            self._context.set_device_memory(activation.address, activation.nbytes)
        else:
            self._context.device_memory = activation.address

    def _bind(self, name: str, tensor: Tensor) -> None:
        if tensor.address % ALIGNMENT:
            raise RunError(
                f"'{name}' of '{self._file}' lies at an address that is no multiple of "
                f"{ALIGNMENT}; please report this."
            )
        if not self._context.set_tensor_address(name, tensor.address):
            raise RunError(
                f"TensorRT does not take the memory for '{name}' of '{self._file}'"
                f"{self._opened.why()}; please report this."
            )

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._opened.device.stream):
            raise RunError(
                f"TensorRT failed to run '{self._file}'{self._opened.why()}; free memory on the "
                "GPU, or build the engine again."
            )

    def _capturable(self) -> bool:
        """Whether its work is to be recorded, and can be; only TensorRT for RTX can tell."""
        if not self._opened.graphs:
            return False
        asked = getattr(self._context, "is_stream_capturable", None)
        if asked is None or asked(self._opened.device.stream):
            return True
        warnings.warn(
            f"'{self._file}' takes memory while it runs, so it cannot be recorded in a CUDA graph "
            "and runs slower; build it again.",
            stacklevel=2,
        )
        return False


def runtime_config(engine: Any, library: Any) -> Any:
    """How contexts of an engine of TensorRT for RTX are made; it must live as long as they do."""
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(
        library.ExecutionContextAllocationStrategy.USER_MANAGED
    )
    # Kernels that are swapped for better ones later would stay as they are in a CUDA graph.
    config.dynamic_shapes_kernel_specialization_strategy = (
        library.DynamicShapesKernelSpecializationStrategy.EAGER
    )
    return config


def activation_bytes(engine: Any) -> int:
    """Activation memory that a context needs, by the engine's own account."""
    # TensorRT 8.6 has the first version of this number only, TensorRT 11 the second one only.
    name = "device_memory_size_v2"
    return int(getattr(engine, name if hasattr(engine, name) else "device_memory_size"))


def make_context(engine: Any, config: Any, file: str, opened: Opened) -> Any:
    """Makes an execution context without memory of its own, as each generation of TensorRT does.

    Args:
        engine: The engine.
        config: Its runtime configuration; None for an engine of full TensorRT.
        file: The engine, for messages.
        opened: The session's device and messages.

    Raises:
        RunError: TensorRT cannot make it.
    """
    strategies = getattr(opened.library, "ExecutionContextAllocationStrategy", None)
    if config is not None:
        context = engine.create_execution_context(runtime_config=config)
    elif strategies is not None:
        context = engine.create_execution_context(strategies.USER_MANAGED)
    else:
        context = engine.create_execution_context_without_device_memory()
    if context is None:
        raise RunError(
            f"TensorRT cannot make an execution context of '{file}'{opened.why()}; free memory on "
            "the GPU."
        )
    return context
