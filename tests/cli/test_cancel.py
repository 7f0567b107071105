"""Cancelling a command, with real signals in real processes."""

import os
import signal
import subprocess
import sys

import pytest
from kdexport.cli.cancel import Cancelled, cancellable

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

PROGRAM = """
import os, signal, sys, threading, time, weakref
from kdexport.cli.cancel import cancellable

class Thing:
    pass

def kill():
    os.kill(os.getpid(), signal.{number})

def in_a_string():
    exec("kill(); time.sleep(30)")

def in_a_callback():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: (kill(), time.sleep(1)))
    del thing
    time.sleep(30)

try:
    with cancellable():
        {where}()
except KeyboardInterrupt:
    print("caught")
    sys.exit(1)
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("where", ["in_a_string", "in_a_callback"])
def test_a_signal_is_raised_wherever_it_arrives(tmp_path, number, where):
    (tmp_path / "program.py").write_text(PROGRAM.format(number=number, where=where))
    done = subprocess.run(
        [sys.executable, "-m", "program"], cwd=tmp_path, capture_output=True, text=True, timeout=15
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "caught\n", "")


def test_the_handlers_are_put_back():
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    hook = sys.unraisablehook
    with pytest.raises(Cancelled), cancellable():
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert sys.unraisablehook is hook


def test_other_lost_exceptions_are_reported(capsys):
    class Broken:
        def __del__(self):
            raise ValueError("lost")

    reported = []
    hook, sys.unraisablehook = sys.unraisablehook, reported.append
    try:
        with cancellable():
            Broken()
    finally:
        sys.unraisablehook = hook
    assert len(reported) == 1
