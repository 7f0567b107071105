"""Fixtures of the evaluator's tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from kdexport.core.errors import DependencyError
from kdexport.runtimes.mil.toolbox import coremltools


@pytest.fixture(scope="session")
def mil() -> ModuleType:
    """The module that builds small programs."""
    try:
        coremltools()
    except DependencyError as error:
        pytest.skip(str(error))
    name = "kdexport_mil_tests_building"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("building.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
