"""Fixtures of the runtimes' tests: the hand-made bundles and their twins in diffusers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest


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
