"""Fixtures that all tests share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

# Tiny models: with more threads, tests that run side by side only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a zoo model's narrow twin, made once per session; do not write to it."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        from kdexport.export.make import make_checkpoint  # torch: only where a test asks for it

        if name not in made:
            directory = tmp_path_factory.mktemp("narrow") / name
            make_checkpoint(name, directory, narrow=True)
            made[name] = directory
        return made[name]

    return folder


@pytest.fixture(scope="session", autouse=True)
def _zoo_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keeps `zoo:NAME` out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDEXPORT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def micro() -> ModuleType:
    """The module `micro.py` beside this file."""
    spec = importlib.util.spec_from_file_location("micro", Path(__file__).with_name("micro.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def micro_pipeline(micro: ModuleType, narrow: Callable[[str], Path], tmp_path_factory) -> Path:
    """A whole pipeline that exports in seconds; do not write to it."""
    folder: Path = tmp_path_factory.mktemp("micro") / "pipeline"
    micro.save_pipeline(folder, narrow("bk-sdm-small"))
    return folder
