"""A stand-in for NVIDIA's `tensorrt`, of which no build runs without a GPU.

It has what the builds use, with the members that a version has (NVIDIA's release notes), reads
ONNX files for real, and writes as an engine what it was asked for, in JSON.
"""

from __future__ import annotations

import enum
import json
from types import ModuleType, SimpleNamespace

import onnx
from onnx import TensorProto

_LAYERS = {"Shape": "SHAPE", "Cast": "CAST", "Concat": "CONCATENATION", "Reshape": "SHUFFLE"}
_DTYPES = {TensorProto.FLOAT: "FLOAT", TensorProto.FLOAT16: "HALF", TensorProto.INT64: "INT64"}


def make_tensorrt(version, failing=False):
    """The module as version 8.6.1, 9.1.0, 10.x or 11.x; its builds may fail."""
    made = ModuleType("tensorrt")
    numbers = tuple(int(part) for part in version.split(".")[:2])
    made.__version__ = version
    made.plugins = []
    made.init_libnvinfer_plugins = lambda logger, name: made.plugins.append(name)
    _add_enums(made, numbers)
    made.ILogger = _Logger
    made.Builder = lambda log: _Builder(made, log, failing)
    made.OnnxParser = _Parser
    if numbers >= (8, 7):
        made.IProgressMonitor = type("IProgressMonitor", (), {})
    return made


def _add_enums(made, numbers):
    flags = ["TF32", "PREFER_PRECISION_CONSTRAINTS"]
    creation = []
    if numbers < (11, 0):
        flags += ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"]
        flags += ["BF16"] if numbers >= (9, 0) else []
        creation = ["EXPLICIT_BATCH"] + (["STRONGLY_TYPED"] if numbers >= (9, 1) else [])
    levels = ["NONE", "AMPERE_PLUS"] + (["SAME_COMPUTE_CAPABILITY"] if numbers >= (10, 6) else [])
    for name, members in {
        "BuilderFlag": flags,
        "NetworkDefinitionCreationFlag": creation,
        "HardwareCompatibilityLevel": levels,
        "ProfilingVerbosity": ["LAYER_NAMES_ONLY", "NONE", "DETAILED"],
        "DeviceType": ["GPU", "DLA"],
        "LayerType": [*_LAYERS.values(), "CONSTANT", "IDENTITY", "MATRIX_MULTIPLY"],
        "DataType": [*_DTYPES.values(), "BOOL"],
    }.items():
        setattr(made, name, enum.IntEnum(name, members, start=0))


class _Logger:
    """Severities as the package has them."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class _Layer:
    """One layer; keeps the types that it is given."""

    def __init__(self, library, node, dtypes):
        self.name, self.pinned, self.outputs = node.name, None, {}
        kind = _LAYERS.get(node.op_type, "MATRIX_MULTIPLY")
        self.type = library.LayerType[kind]
        self._given = [
            SimpleNamespace(dtype=library.DataType[dtypes[each]]) for each in node.output
        ]
        self.num_outputs = len(self._given)

    def get_output(self, index):
        return self._given[index]

    def set_output_type(self, index, dtype):
        self.outputs[index] = dtype.name

    @property
    def precision(self):
        return self.pinned

    @precision.setter
    def precision(self, dtype):
        self.pinned = dtype

    @property
    def precision_is_set(self):
        return self.pinned is not None


class _Network:
    """A network; the parser fills it."""

    def __init__(self, library, flags):
        self.library, self.flags, self.inputs, self.layers = library, flags, [], []

    def __iter__(self):
        return iter(self.layers)

    @property
    def num_inputs(self):
        return len(self.inputs)

    def get_input(self, index):
        return self.inputs[index]

    def get_flag(self, flag):
        return bool(self.flags & 1 << int(flag))


class _Parser:
    """Reads what the tests' files have."""

    num_errors = 0

    def __init__(self, network, log):
        self.network = network
        # As the package does with every file, and with warnings for one layer or another.
        log.log(_Logger.INFO, "parsing")
        log.log(_Logger.WARNING, "[MemUsage] odd")

    def parse_from_file(self, path):
        model = onnx.shape_inference.infer_shapes(onnx.load(path))
        graph = model.graph
        dtypes = {
            each.name: _DTYPES[each.type.tensor_type.elem_type]
            for each in (*graph.input, *graph.value_info, *graph.output)
        }
        for each in graph.input:
            sizes = each.type.tensor_type.shape.dim
            shape = tuple(-1 if size.dim_param else size.dim_value for size in sizes)
            made = SimpleNamespace(name=each.name, shape=shape, dtype=dtypes[each.name])
            made.is_shape_tensor = False
            self.network.inputs.append(made)
        library = self.network.library
        self.network.layers += [_Layer(library, node, dtypes) for node in graph.node]
        return True


class _Profile:
    """An optimization profile."""

    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, least, best, most):
        self.shapes[name] = [list(least), list(best), list(most)]

    def __bool__(self):
        return True


class _TimingCache:
    """Timings: the bytes that it was made from, and one more for each build."""

    def __init__(self, data):
        self.data = bytes(data)

    def combine(self, other, ignore_mismatch):
        assert ignore_mismatch
        return other.data == self.data

    def serialize(self):
        return memoryview(self.data + b"+")


class _Config:
    """Takes any setting and keeps it."""

    DLA_core, default_device_type, num_optimization_profiles = -1, 0, 1

    def __init__(self):
        self.flags, self.profiles, self.cache = set(), [], None

    def set_flag(self, flag):
        self.flags.add(flag.name)

    def clear_flag(self, flag):
        self.flags.discard(flag.name)

    def get_flag(self, flag):
        return flag.name in self.flags

    def add_optimization_profile(self, profile):
        self.profiles.append(profile.shapes)

    def create_timing_cache(self, data):
        return _TimingCache(data)

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        self.cache = cache

    def get_timing_cache(self):
        return self.cache


class _Builder:
    """Writes what it was asked for instead of an engine."""

    def __init__(self, library, log, failing):
        self.library, self.log, self.failing = library, log, failing

    def create_network(self, flags):
        return _Network(self.library, flags)

    def create_builder_config(self):
        return _Config()

    def create_optimization_profile(self):
        return _Profile()

    def build_serialized_network(self, network, config):
        if self.failing:
            wrapped = "IBuilder::build: Error Code 10: Internal Error (no tactic. In f at /x.cpp:1)"
            self.log.log(_Logger.ERROR, wrapped)
            return None
        monitor = getattr(config, "progress_monitor", None)
        if monitor is not None:
            monitor.phase_start("Build", None, 2)
            assert monitor.step_complete("Build", 0)
            assert monitor.step_complete("Build", 1)
            monitor.phase_finish("Build")
        pinned = {each.name: each.pinned.name for each in network if each.precision_is_set}
        compatibility = getattr(config, "hardware_compatibility_level", None)
        engine = {
            "version": self.library.__version__,
            "network": network.flags,
            "flags": sorted(config.flags),
            "profiles": config.profiles,
            "level": getattr(config, "builder_optimization_level", None),
            "compatibility": compatibility and compatibility.name,
            "verbosity": config.profiling_verbosity.name,
            "monitored": monitor is not None,
            "cache": config.cache.data.decode(),
            "pinned": pinned,
            "outputs": {each.name: each.outputs for each in network if each.outputs},
        }
        return json.dumps(engine).encode()
