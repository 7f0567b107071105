"""Contestants for tests, and what they draw."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from kdexport.runtimes.bench import protocol
from kdexport.runtimes.bench.contestant import Contestant
from kdexport.runtimes.bench.options import Drawing


@pytest.fixture
def drawing():
    return Drawing("a cat", steps=2, guidance=1.0, height=16, width=16)


@pytest.fixture(scope="session")
def stand_in():
    """Makes a contestant of `stand_in.py`; what it is told are its keywords."""
    program = str(Path(__file__).with_name("stand_in.py"))

    def make(name="it", same_noise=True, **tool):
        command = (sys.executable, program, protocol.__file__)
        return Contestant(name, command, {"name": name, **tool}, 1000, same_noise=same_noise)

    return make
