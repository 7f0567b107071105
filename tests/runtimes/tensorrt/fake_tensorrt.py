"""A stand-in for TensorRT that runs ONNX files with ONNX Runtime on a `FakeCuda`.

An engine file is JSON that names an ONNX file. The generations differ as the real ones do: 8 has no
allocation strategies and no 64 bit integers, RTX has runtime configurations and caches. It is as
strict as TensorRT says that it is: shapes inside the profile, every address set and aligned, memory
for activations given, no capture before a run after any change.
"""

from __future__ import annotations

import ctypes
import json
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime

TYPES = {"float": "FLOAT", "float16": "HALF", "int64": "INT64"}
ARRAYS = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64, "INT32": np.int32}
MAGIC = "engine"
# Compiled for each set of shapes by the just-in-time compiler of TensorRT for RTX.
KERNEL = b"kernel;"


class Value:
    """A member of an enumeration."""

    def __init__(self, name):
        self.name = name


def enumeration(*names):
    return SimpleNamespace(**{name: Value(name) for name in names})


class Library(SimpleNamespace):
    """A module, which unlike a namespace is itself only."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


def make_library(cuda, kind="rtx", version="1.7.1.116", generation=11):
    """The module `tensorrt_rtx` or `tensorrt`."""
    severity = enumeration("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")

    class ILogger:
        Severity = severity

        def __init__(self):
            self.ready = True

    library = Library(
        __version__=version,
        kind=kind,
        generation=generation,
        cuda=cuda,
        ILogger=ILogger,
        TensorIOMode=enumeration("INPUT", "OUTPUT"),
        TensorLocation=enumeration("DEVICE", "HOST"),
        runtimes=weakref.WeakSet(),
        contexts=[],
        runs=[],
        compiled=[],
        capturable=True,
        init_libnvinfer_plugins=lambda logger, name: logger.ready,
    )
    library.Runtime = lambda logger: Runtime(library, logger)
    if generation > 8:
        library.ExecutionContextAllocationStrategy = enumeration("STATIC", "USER_MANAGED")
    if kind == "rtx":
        names = ("LAZY", "EAGER", "NONE")
        library.DynamicShapesKernelSpecializationStrategy = enumeration(*names)
    return library


def write_engine(path, onnx, profile, need=4096, **changes):
    """Writes an engine file: `need` are the bytes of its activations."""
    data = {"magic": MAGIC, "onnx": str(onnx), "profile": profile, "need": need, **changes}
    Path(path).write_text(json.dumps(data), encoding="utf-8")


class Runtime:
    def __init__(self, library, logger):
        assert logger.ready
        # TensorRT asks for a single one in a process.
        assert all(other.logger is logger for other in library.runtimes)
        self.library, self.logger = library, logger
        library.runtimes.add(self)

    def deserialize_cuda_engine(self, data):
        try:
            description = json.loads(bytes(memoryview(data)))
            if description["magic"] != MAGIC:
                raise ValueError(description["magic"])
        except ValueError:
            self.logger.log(self.logger.Severity.WARNING, "engines differ")
            self.logger.log(self.logger.Severity.ERROR, "magic tag does not match\n")
            return None
        made = FakeEngine(self.library, self.logger, description)
        made.gpu = self.library.cuda.current
        return made


class FakeEngine:
    def __init__(self, library, logger, description):
        self.library, self.logger, self.description = library, logger, description
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(description["onnx"], options)
        self.inputs = {each.name: each for each in self.session.get_inputs()}
        self.outputs = {each.name: each for each in self.session.get_outputs()}
        self.known = {}
        if library.generation > 8:
            self.device_memory_size_v2 = description["need"]
        else:
            self.device_memory_size = description["need"]

    @property
    def num_io_tensors(self):
        return len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index):
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name):
        modes = self.library.TensorIOMode
        return modes.INPUT if name in self.inputs else modes.OUTPUT

    def get_tensor_location(self, name):
        places = self.library.TensorLocation
        return places.HOST if name in self.description.get("host", ()) else places.DEVICE

    def get_tensor_dtype(self, name):
        value = self.inputs.get(name) or self.outputs[name]
        found = TYPES[value.type.removeprefix("tensor(").removesuffix(")")]
        found = self.description.get("types", {}).get(name, found)
        return Value("INT32" if found == "INT64" and self.library.generation == 8 else found)

    def create_runtime_config(self):
        assert self.library.kind == "rtx"
        return Config(self.library)

    def create_execution_context(self, strategy=None, runtime_config=None):
        assert self.library.generation > 8
        if self.library.kind == "rtx":
            assert strategy is None
            strategy = runtime_config.strategy
            kinds = self.library.DynamicShapesKernelSpecializationStrategy
            assert runtime_config.dynamic_shapes_kernel_specialization_strategy is kinds.EAGER
        assert strategy is self.library.ExecutionContextAllocationStrategy.USER_MANAGED
        return self._context(runtime_config)

    def create_execution_context_without_device_memory(self):
        assert self.library.generation == 8
        return self._context(None)

    def _context(self, config):
        assert self.gpu == self.library.cuda.current
        if self.description.get("no context"):
            self.logger.log(self.logger.Severity.ERROR, "out of memory")
            return None
        if self.library.generation == 8:
            return OldContext(self, config)
        return (RtxContext if self.library.kind == "rtx" else NewContext)(self, config)

    def output_shapes(self, shapes):
        key = tuple(shapes.items())
        if key not in self.known:
            feed = {
                name: np.zeros(shape, ARRAYS[TYPES[self.inputs[name].type[7:-1]]])
                for name, shape in shapes.items()
            }
            results = self.session.run(list(self.outputs), feed)
            self.known[key] = {
                name: each.shape for name, each in zip(self.outputs, results, strict=True)
            }
        return self.known[key]


class Config:
    def __init__(self, library):
        self.library, self.strategy, self.cache = library, None, None

    def set_execution_context_allocation_strategy(self, strategy):
        self.strategy = strategy

    def create_runtime_cache(self):
        return Cache(self.library.cuda)

    def set_runtime_cache(self, cache):
        self.cache = weakref.ref(cache)
        return True


class Cache:
    """Holds what was compiled, by shape; damaged files begin otherwise."""

    def __init__(self, cuda):
        self.cuda, self.blob, self.gpu = cuda, KERNEL, cuda.current

    def deserialize(self, blob):
        # The library wants a CUDA context.
        assert self.cuda.live["stream"]
        if not blob.startswith(KERNEL):
            return False
        self.blob = bytes(blob)
        return True

    def serialize(self):
        assert self.gpu == self.cuda.current
        return memoryview(self.blob)


class Context:
    def __init__(self, engine, config):
        self.engine = engine
        # Whether it keeps what it was made of alive is not documented.
        self.config = None if config is None else weakref.ref(config)
        self.library, self.cuda = engine.library, engine.library.cuda
        self.shapes, self.addresses, self.memory = {}, {}, None
        self.warm = False
        self.library.contexts.append(self)

    def set_input_shape(self, name, shape):
        smallest, _, largest = self.engine.description["profile"][name]
        if len(shape) != len(smallest) or any(
            not low <= size <= high
            for low, size, high in zip(smallest, shape, largest, strict=True)
        ):
            self._complain(f"{name} is outside the profile")
            return False
        self.shapes[name] = tuple(shape)
        self.warm = False
        return True

    def infer_shapes(self):
        if self.engine.description.get("no shapes"):
            raise RuntimeError("a division by zero")
        return list(self.engine.description.get("unknown", ()))

    def get_tensor_shape(self, name):
        return list(self.engine.output_shapes(self.shapes)[name])

    def set_tensor_address(self, name, address):
        assert type(address) is int
        assert address % 256 == 0
        if name in self.engine.description.get("refused", ()):
            self._complain("no memory for it")
            return False
        self.addresses[name] = address
        self.warm = False
        return True

    def execute_async_v3(self, stream):
        self.cuda.require_stream(stream)
        recording = self.cuda.recording is not None
        if self.engine.description.get("broken") or (recording and not self.warm):
            self._complain("a capture before a run" if recording else "it failed")
            return False
        assert set(self.addresses) == {*self.engine.inputs, *self.engine.outputs}
        assert self.memory is not None
        assert self.memory[1] is None or self.memory[1] >= self.engine.description["need"]
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        self.cuda.ask(lambda: self._compute(shapes, addresses, self.memory[0]))
        self.warm = True
        self._compile()
        return True

    def _compute(self, shapes, addresses, memory):
        engine = self.engine
        feed = {}
        for name, value in engine.inputs.items():
            kind = ARRAYS[engine.get_tensor_dtype(name).name]
            wanted = ARRAYS[TYPES[value.type[7:-1]]]
            feed[name] = self.cuda.view(addresses[name], kind, shapes[name]).astype(wanted)
        results = engine.session.run(list(engine.outputs), feed)
        # Nothing else may lie where the activations do.
        ctypes.memset(
            self.cuda.view(memory, np.uint8, (engine.description["need"],)).ctypes.data,
            0xAB,
            engine.description["need"],
        )
        for name, result in zip(engine.outputs, results, strict=True):
            kind = ARRAYS[engine.get_tensor_dtype(name).name]
            self.cuda.view(addresses[name], kind, result.shape)[...] = result
        self.library.runs.append((engine.description["onnx"], shapes))

    def _compile(self):
        if self.config is not None:
            cache = self.config().cache()
            kernel = json.dumps(sorted(self.shapes.items())).encode() + b";"
            if kernel not in cache.blob:
                self.library.compiled.append(self.engine.description["onnx"])
                cache.blob += kernel

    def _complain(self, message):
        self.engine.logger.log(self.engine.logger.Severity.ERROR, message)


class OldContext(Context):
    @property
    def device_memory(self):
        return self.memory

    @device_memory.setter
    def device_memory(self, address):
        self.memory = (address, None)
        self.warm = False


class NewContext(Context):
    def set_device_memory(self, address, nbytes):
        assert type(address) is int
        self.memory = (address, nbytes)
        self.warm = False


class RtxContext(NewContext):
    def is_stream_capturable(self, stream):
        self.cuda.require_stream(stream)
        # Memory that is still to come may be what it cannot be captured for.
        assert self.warm
        return self.library.capturable
