"""The process of a contestant: what it answers, and what becomes of it when it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kdexport.core.errors import OptionError, RunError
from kdexport.runtimes.bench.options import Effort, usable_cores
from kdexport.runtimes.bench.turns import Place, take_turn


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path / "place")
    place.make()
    return place


def gone(pid):
    """Whether a process ends, waited for or not; one that was killed may take a moment."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False


def test_an_answer(stand_in, drawing, place):
    turn = take_turn(stand_in(seconds=0.02), drawing, Effort(threads=3), place, 2)
    assert set(turn.seconds) == {"start", "import", "load", "first"}
    assert len(turn.pictures) == 2
    assert min(turn.pictures) >= 0.02
    # Of the last picture only.
    assert turn.parts["unet"]["calls"] == 1
    assert turn.parts["unet"]["seconds"] == pytest.approx(turn.pictures[-1], abs=0.02)
    assert turn.start_to_picture == pytest.approx(sum(turn.seconds.values()), abs=0.05)
    assert 5e6 < turn.peak_rss < 1e9
    assert turn.versions == {"threads": "3"}
    assert place.picture.is_file()


def test_no_further_picture(stand_in, drawing, place):
    turn = take_turn(stand_in(), drawing, Effort(), place, 0)
    assert turn.pictures == ()
    assert turn.parts["unet"]["calls"] == 1


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("import", "'it' failed with status 1: ModuleNotFoundError: No module named 'nothing'"),
        ("dies", "'it' failed with status 7: dying now"),
    ],
)
def test_a_failure_says_why(stand_in, drawing, place, fails, said):
    with pytest.raises(RunError) as caught:
        take_turn(stand_in(fails=fails), drawing, Effort(), place, 1)
    assert str(caught.value) == said


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_out_of_time_leaves_no_process(stand_in, drawing, place, tmp_path):
    hangs = stand_in(fails="hangs", pids=str(tmp_path / "pids"))
    with pytest.raises(RunError, match="'it' took longer than 5 s"):
        take_turn(hangs, drawing, Effort(limit=5), place, 1)
    assert all(gone(pid) for pid in (tmp_path / "pids").read_text().split())


PROGRAM = """
import sys
from pathlib import Path
from kdexport.cli.cancel import cancellable
from kdexport.runtimes.bench.contestant import Contestant
from kdexport.runtimes.bench.options import Drawing, Effort
from kdexport.runtimes.bench.turns import Place, take_turn

place = Place(Path(sys.argv[1]))
place.make()
tool = {"name": "it", "fails": "hangs", "pids": sys.argv[2]}
who = Contestant("it", (sys.executable, *sys.argv[3:]), tool)
try:
    with cancellable():
        take_turn(who, Drawing("a", 1, 1.0, 16, 16), Effort(), place, 1)
except KeyboardInterrupt:
    print("cancelled")
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancelling_leaves_no_process(stand_in, tmp_path, number):
    pids = tmp_path / "pids"
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "place"), str(pids)]
    with subprocess.Popen(
        [*command, *stand_in().command[1:]], stdout=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + 30
        while not (pids.is_file() and pids.read_text()):
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(process.pid, number)
        assert process.communicate(timeout=30)[0] == "cancelled\n"
    assert all(gone(pid) for pid in pids.read_text().split())


@pytest.mark.parametrize("change", [{"rounds": 0}, {"cold": -1}, {"pictures": 0}, {"threads": 0}])
def test_numbers_are_checked(change):
    with pytest.raises(OptionError, match=f"'{next(iter(change))}' must be at least"):
        Effort(**change)


def test_limits_and_cores_are_checked():
    with pytest.raises(OptionError, match="needs more than 0 seconds"):
        Effort(limit=0)
    with pytest.raises(OptionError, match=r"There is no CPU 9999|on Linux only"):
        Effort(cores=(9999,))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")
def test_cores_bind(stand_in, drawing, place):
    core = min(os.sched_getaffinity(0))
    take_turn(stand_in(), drawing, Effort(cores=(core,)), place, 0)
    with pytest.raises(OptionError, match="There is no CPU named"):
        Effort(cores=())
    assert usable_cores() == len(os.sched_getaffinity(0))
