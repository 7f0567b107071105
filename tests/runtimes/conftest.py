"""Fixtures of the runtimes' tests: the hand-made bundles and their twins in diffusers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from kdexport.core.manifest import TensorSpec
from onnx import helper


def _sibling(name: str) -> ModuleType:
    """Imports a helper beside this file, whatever the import mode and the current folder."""
    full = f"kdexport_runtimes_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture(scope="session")
def tiny_bundle() -> ModuleType:
    """The module that writes hand-made bundles."""
    return _sibling("tiny_bundle")


@pytest.fixture(scope="session")
def three_outputs(tiny_bundle, tmp_path_factory) -> Path:
    """A graph: `same` is its input, `square` its square, `add` fails on widths other than 3."""
    shape = ("batch", 2, "width")
    return tiny_bundle.save_graph(
        tmp_path_factory.mktemp("graph") / "model.onnx",
        [
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("Mul", ["x", "x"], ["square"]),
            helper.make_node("Add", ["x", "three"], ["add"]),
        ],
        [TensorSpec("x", "float32", shape)],
        [TensorSpec(name, "float32", shape) for name in ("same", "square")]
        + [TensorSpec("add", "float32", ("batch", 2, 3))],
        {"three": np.arange(3, dtype=np.float32)},
    )


@pytest.fixture(scope="session")
def tiny_diffusers() -> ModuleType:
    """The module that builds their twins in diffusers."""
    return _sibling("tiny_diffusers")


@pytest.fixture(scope="session")
def bundles(tiny_bundle, tmp_path_factory):
    """`bundles("sd")` and `bundles("sdxl")`: weights, folder and manifest; do not write there."""
    made = {}

    def get(family: str) -> SimpleNamespace:
        if family not in made:
            folder = tmp_path_factory.mktemp("bundles") / family
            tiny = tiny_bundle.make_tiny(family)
            manifest = tiny_bundle.write_bundle(tiny, folder)
            made[family] = SimpleNamespace(tiny=tiny, folder=folder, manifest=manifest)
        return made[family]

    return get


@pytest.fixture(scope="session")
def sd(bundles):
    """The SD bundle."""
    return bundles("sd")


@pytest.fixture(scope="session")
def sdxl(bundles):
    """The SDXL bundle."""
    return bundles("sdxl")
