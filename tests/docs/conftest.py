"""Fixtures of the documentation's tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _sibling(name: str) -> ModuleType:
    """Imports a helper beside this file, whatever the import mode and the current folder."""
    full = f"kdexport_docs_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `page` is run for every page."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", _sibling("pages").PAGES)


@pytest.fixture(scope="session")
def pages() -> ModuleType:
    """The module `pages.py` beside this file."""
    return _sibling("pages")


@pytest.fixture(scope="session")
def hub() -> ModuleType:
    """The module `hub.py` beside this file."""
    return _sibling("hub")


@pytest.fixture(scope="session")
def conditions() -> ModuleType:
    """The module `conditions.py` beside this file."""
    return _sibling("conditions")
