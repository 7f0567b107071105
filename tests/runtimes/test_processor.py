"""What tells processors apart."""

from __future__ import annotations

import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
from kdexport.runtimes import processor as module
from kdexport.runtimes.processor import processor

X86 = """processor\t: {number}
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC
cpu MHz\t\t: {clock}
flags\t\t: fpu avx2 {flag}
bogomips\t: 5192.23

"""
ARM = """processor\t: {number}
BogoMIPS\t: 50.00
Features\t: fp asimd {flag}
CPU implementer\t: 0x41
CPU part\t: 0xd0c

"""


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """Writes what the kernel says; gives what comes of it."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(module, "_LINUX", tmp_path / "cpuinfo")

    def say(*cores):
        (tmp_path / "cpuinfo").write_text("".join(cores))
        return processor()

    return say


@pytest.mark.parametrize("text", [X86, ARM])
def test_what_a_processor_can_do_counts(linux, text):
    cores = [text.format(number=number, clock=3000 + number, flag="new") for number in range(4)]
    said = linux(*cores)
    assert "new" in said
    # Not the clock, nor the number of cores.
    assert linux(cores[3]) == said
    assert linux(text.format(number=0, clock=1, flag="newer")) != said
    # Cores of two kinds.
    assert linux(*cores, text.format(number=4, clock=1, flag="small")) != said


def test_where_nothing_is_said(linux, monkeypatch):
    assert processor() is None
    assert linux("") is None
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(platform, "processor", lambda: "AMD64 Family 26")
    assert processor().endswith("AMD64 Family 26")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert processor() is None


def test_a_mac(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    said = SimpleNamespace(stdout="machdep.cpu.brand_string: Apple M4\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    assert "Apple M4" in processor()

    def missing(*_, **__):
        raise FileNotFoundError("sysctl")

    monkeypatch.setattr(subprocess, "run", missing)
    assert processor() is None


def test_this_processor_is_the_same_twice():
    assert processor() == processor()
