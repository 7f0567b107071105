"""Small ONNX files, and the package of NVIDIA's that needs a GPU."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from kdexport.core.manifest import load_manifest
from kdexport.core.options import OnnxOptions
from kdexport.core.profiles import Profile, shape_ranges
from kdexport.export.load import load_checkpoint
from kdexport.export.onnx_bundle import export_onnx
from kdexport.export.prepare import prepare_export
from kdexport.export.tensorrt.request import EngineRequest
from onnx import TensorProto, helper, numpy_helper

BATCH = ((1, 4), (2, 4), (8, 4))


def save_onnx(path, nodes, inputs, outputs, weights=(), opset=21, domains=()):
    """Writes a graph; inputs and outputs are `name=(ONNX type, shape)`."""
    ports = [
        [helper.make_tensor_value_info(name, *port) for name, port in given.items()]
        for given in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "graph", *ports, list(weights))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(each, 1) for each in domains)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    return path


def save_linear(path, external=False, seed=0, dtype=TensorProto.FLOAT16, batch="batch"):
    """A graph of one product, `x` (batch, 4) to `y`; its weight may lie in a file of its own."""
    array = np.random.default_rng(seed).normal(size=(4, 4))
    weight = numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(dtype)), "w")
    if external:
        file = path.with_name(f"{path.name}.data")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(weight.raw_data)
        point_to(weight, file.name, len(weight.raw_data))
    shape = (dtype, (batch, 4))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    return save_onnx(path, nodes, {"x": shape}, {"y": shape}, [weight])


def point_to(weight, location, length, offset=0):
    """Makes a tensor one whose bytes lie in another file."""
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        weight.external_data.add(key=key, value=str(value))


def request_for(path, capability=(8, 9), kind="rtx", ranges=None, **more):
    """A request for the engine of a graph."""
    return EngineRequest("unet", path, kind, capability, ranges or {"x": BATCH}, **more)


@pytest.fixture(scope="session")
def graphs():
    """The functions above."""
    return SimpleNamespace(
        save=save_onnx, linear=save_linear, point_to=point_to, request=request_for
    )


@pytest.fixture(scope="session")
def stand_in():
    """The module with the stand-in for TensorRT."""
    name = "kdexport_export_tests_stand_in"
    if name not in sys.modules:
        path = Path(__file__).with_name("stand_in.py")
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def native(stand_in, monkeypatch):
    """`native("10.7.0")` installs that version beside a GPU, for the real Polygraphy too."""

    def install(version, failing=False, capability=(8, 9)):
        # It keeps the package that it found first.
        for name in [each for each in sys.modules if each.partition(".")[0] == "polygraphy"]:
            monkeypatch.delitem(sys.modules, name)
        library = stand_in.make_tensorrt(version, failing)
        monkeypatch.setitem(sys.modules, "tensorrt", library)
        monkeypatch.setattr("kdexport.export.tensorrt.targets.local_capability", lambda: capability)
        return library

    return install


@pytest.fixture(scope="session")
def micro_bundle(micro_pipeline, tmp_path_factory):
    """An ONNX bundle of the smallest pipeline, any size, as engines are built from."""
    checkpoint = load_checkpoint(str(micro_pipeline))
    options = OnnxOptions(*("mixed", "portable"), schedulers=(), max_steps=2)
    folder = tmp_path_factory.mktemp("onnx") / "bundle"
    folder.mkdir()
    export_onnx(prepare_export(checkpoint, options), folder, lambda what, share: None)
    return folder


@pytest.fixture
def dynamic_unet(micro_bundle):
    """`dynamic_unet(folder)`: a request for the smallest U-Net of any size, copied there."""

    def request(folder):
        shutil.copytree(micro_bundle / "unet", folder / "unet")
        component = load_manifest(micro_bundle).component("unet")
        profile = Profile.parse(["batch=1,1,2", "height=64,64,128", "width=64,64,128"], 64)
        ranges = shape_ranges(component, profile, 2, 8)
        return EngineRequest("unet", folder / "unet" / "model.onnx", "rtx", (8, 9), ranges)

    return request
