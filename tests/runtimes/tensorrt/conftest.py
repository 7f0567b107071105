"""Fixtures of the TensorRT runtime's tests: a stand-in GPU, and bundles with engines for it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from kdexport.core.manifest import EngineRecord, load_manifest, record_files, save_manifest

VERSIONS = {"rtx": "1.7.1.116", "native": "11.4.0.106"}
MODULES = {"rtx": "tensorrt_rtx", "native": "tensorrt"}


def _sibling(name):
    full = f"kdexport_tensorrt_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture(scope="session")
def fake_cuda():
    """The module with the stand-in for CUDA."""
    return _sibling("fake_cuda")


@pytest.fixture(scope="session")
def fake_tensorrt():
    """The module with the stand-in for TensorRT."""
    return _sibling("fake_tensorrt")


@pytest.fixture
def gpu(fake_cuda, fake_tensorrt, monkeypatch):
    """`gpu(kind)` puts a machine with an RTX 4090 and TensorRT in place; all must be freed."""
    made = []

    def start(kind="rtx", generation=11, version=None, **options):
        cuda = fake_cuda.FakeCuda(**options)
        cuda.install(monkeypatch)
        known = version or (VERSIONS[kind] if generation > 8 else "8.6.1")
        library = fake_tensorrt.make_library(cuda, kind, known, generation)
        monkeypatch.setitem(sys.modules, MODULES[kind], library)
        monkeypatch.setattr("kdexport.runtimes.tensorrt.machine.gpu_present", lambda: True)
        made.append(cuda)
        return SimpleNamespace(cuda=cuda, library=library)

    yield start
    for cuda in made:
        assert cuda.left() == {}
        assert cuda.recording is None


def profile_of(component, most):
    """Shapes that a component's engine takes: rows up to `most`, sides up to 16 latent cells."""
    sides = {"vae_encoder": (8, 64, 128)}.get(component.role, (1, 8, 16))
    pixels = tuple(8 * size for size in sides)
    ranges = {"batch": (1, min(2, most), most), "height": sides, "width": sides}
    ranges |= {"8*height": pixels, "8*width": pixels}
    shapes = {}
    for spec in component.inputs:
        chosen = [ranges[size] if isinstance(size, str) else (size,) * 3 for size in spec.shape]
        shapes[spec.name] = tuple(tuple(each[index] for each in chosen) for index in range(3))
    return shapes


# Text encoders and decoders take few rows, so that the loop has to run them in pieces.
MOST = {"text_encoder": 3, "text_encoder_2": 2, "unet": 12, "controlnet": 12, "vae_decoder": 2}


@pytest.fixture(scope="session")
def with_engines(fake_tensorrt):
    """Turns an ONNX bundle into one for TensorRT, with engines of the stand-in."""

    def turn(folder, kind="rtx", version=None, most=MOST, **changes):
        manifest = load_manifest(folder)
        engines = []
        for index, component in enumerate(manifest.components):
            suffix = "rtx.engine" if kind == "rtx" else "plan"
            file = f"{component.role}.sm89.{suffix}"
            profile = profile_of(component, most.get(component.role, 1))
            onnx = (folder / component.file).resolve()
            fake_tensorrt.write_engine(folder / file, onnx, profile, need=4096 * (index + 1))
            known = version or VERSIONS[kind]
            digits = f"{index:x}" * 64
            record = EngineRecord(
                component.role, file, kind, "sm_89", known, digits[:64], profile, {}
            )
            engines.append(record)
        manifest = replace(
            manifest,
            backend="tensorrt",
            engines=tuple(engines),
            files=record_files(folder),
            **changes,
        )
        save_manifest(manifest, folder)
        return manifest

    return turn


@pytest.fixture(scope="session")
def make_bundle(bundles, tiny_bundle, with_engines, tmp_path_factory):
    """`make_bundle("sdxl", "rtx", encoder=…)`: folder and manifest; do not write there."""
    made = {}

    def make(family="sd", kind="rtx", **options):
        key = (family, kind, *sorted(options.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("engines") / "bundle"
            version = options.pop("version", None)
            tiny_bundle.write_bundle(bundles(family).tiny, folder, **options)
            manifest = with_engines(folder, kind, version)
            made[key] = SimpleNamespace(folder=folder, manifest=manifest)
        return made[key]

    return make
