"""A deserialised TensorRT engine: its inputs and outputs, and an execution context for each shape.

Written without a GPU: run against a stand-in with the same functions only.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import BundleError, RunError, listing
from ...core.manifest import Component, EngineRecord, TensorSpec
from .buffers import Workspace
from .context import ShapedContext, activation_bytes, make_context, runtime_config
from .limits import check_shapes
from .runtime_cache import RuntimeCache, cache_folders, cache_name
from .session import Opened, Session
from .tensor import Tensor

# Sizes are few on a server; an execution context holds memory of its own.
_MOST_SHAPES = 4

# What TensorRT 8 and older take for integers of 64 bits.
_NARROWER = {"int64": "int32"}


class LoadedEngine:
    """An engine on the GPU. Close it to free it, before the session that it was made in.

    Attributes:
        component: What the manifest says of the component.
        record: What it says of the engine.
        dtypes: The dtype of each input and output.
        inputs: Memory for inputs that come from the host.
    """

    def __init__(
        self, bundle: Path, component: Component, record: EngineRecord, session: Session
    ) -> None:
        """Deserialises the engine.

        Args:
            bundle: The bundle's folder.
            component: What the manifest says of the component.
            record: What it says of the engine.
            session: An open session.

        Raises:
            BundleError: The engine is missing, or does not have the inputs and outputs that the
                manifest says.
            RunError: TensorRT cannot load it.
        """
        self.component, self.record = component, record
        self._opened = session.opened
        self._engine = _deserialise(bundle / record.file, record, self._opened)
        self.dtypes = _read_dtypes(self._engine, component, record, self._opened.library)
        self._config, self._cache = None, None
        if record.kind == "rtx":
            self._config = runtime_config(self._engine, self._opened.library)
            name = cache_name(record.key, self._opened.machine)
            self._cache = RuntimeCache(self._config, name, cache_folders(bundle))
        self.inputs = Workspace(self._opened.device)
        self._outputs = Workspace(self._opened.device)
        self._contexts: dict[tuple[Any, ...], ShapedContext] = {}
        self._member = self._opened.activation.join(activation_bytes(self._engine))

    def run(self, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Asks for one run.

        Args:
            feed: A tensor for each input, of the dtype that `dtypes` says.

        Returns:
            Every output, in memory that the next run writes over.

        Raises:
            RunError: The shapes are outside the profile, or TensorRT or CUDA refused.
        """
        inputs = {spec.name: feed[spec.name] for spec in self.component.inputs}
        context = self._context({name: tensor.shape for name, tensor in inputs.items()})
        outputs = {
            name: self._outputs.tensor(name, self.dtypes[name], shape)
            for name, shape in context.outputs.items()
        }
        first = context.run({**inputs, **outputs}, self._opened.activation.buffer())
        if first and self._cache is not None:
            self._cache.save()
        return outputs

    def close(self) -> None:
        """Frees the engine; what it compiled is kept first."""
        try:
            self._opened.device.make_current()
            if self._cache is not None:
                self._cache.save()
        finally:
            while self._contexts:
                self._contexts.popitem()[1].close()
            self.inputs.close()
            self._outputs.close()
            self._opened.activation.leave(self._member)
            # What was made of the engine goes before it.
            self._cache = self._config = None
            self._engine = None

    def _context(self, shapes: Mapping[str, tuple[int, ...]]) -> ShapedContext:
        """The context for these shapes, the least recently used one given up for a new one."""
        key = tuple(shapes.items())
        known = self._contexts.pop(key, None)
        if known is None:
            check_shapes(self.record, self.component, shapes)
            if len(self._contexts) >= _MOST_SHAPES:
                self._contexts.pop(next(iter(self._contexts))).close()
            file, outputs = self.record.file, [spec.name for spec in self.component.outputs]
            context = make_context(self._engine, self._config, file, self._opened)
            known = ShapedContext(context, shapes, outputs, file, self._opened)
        self._contexts[key] = known
        return known


def _deserialise(path: Path, record: EngineRecord, opened: Opened) -> Any:
    runtime = opened.runtime
    # Version compatible engines bring code of the library that built them.
    runtime.engine_host_code_allowed = bool(record.settings.get("version_compatible"))
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            engine = runtime.deserialize_cuda_engine(data)
    except FileNotFoundError as error:
        raise BundleError(f"The engine '{path}' is missing; copy the bundle again.") from error
    # An empty file cannot be mapped.
    except ValueError as error:
        raise BundleError(f"The engine '{path}' is empty; copy the bundle again.") from error
    if engine is None:
        raise RunError(
            f"TensorRT cannot load the engine '{path}'{opened.why()}; build it again with "
            "`kdexport tensorrt`."
        )
    return engine


def _read_dtypes(
    engine: Any, component: Component, record: EngineRecord, library: Any
) -> dict[str, str]:
    """The dtypes of an engine's inputs and outputs, held against the manifest."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    specs = {
        **{spec.name: (spec, library.TensorIOMode.INPUT) for spec in component.inputs},
        **{spec.name: (spec, library.TensorIOMode.OUTPUT) for spec in component.outputs},
    }
    modes = {name: engine.get_tensor_mode(name) for name in names}
    if modes != {name: mode for name, (_, mode) in specs.items()}:
        raise BundleError(
            f"The engine '{record.file}' has the inputs and outputs {listing(names)}, but the "
            f"manifest says {listing(specs)}; build it again."
        )
    return {name: _read_dtype(engine, spec, record, library) for name, (spec, _) in specs.items()}


def _read_dtype(engine: Any, spec: TensorSpec, record: EngineRecord, library: Any) -> str:
    name = spec.name
    if engine.get_tensor_location(name) != library.TensorLocation.DEVICE:
        raise BundleError(
            f"The engine '{record.file}' wants '{name}' in the memory of the host, which the loop "
            "on the GPU does not have; build it again from an ONNX file of kdexport."
        )
    dtype = engine.get_tensor_dtype(name)
    found = str(getattr(dtype, "name", dtype)).lower()
    found = {"float": "float32", "half": "float16"}.get(found, found)
    if found not in (spec.dtype, _NARROWER.get(spec.dtype)):
        raise BundleError(
            f"'{name}' of the engine '{record.file}' is {found}, but the manifest says "
            f"{spec.dtype}; build it again."
        )
    return found
