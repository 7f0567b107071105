"""Threads where a program has less than the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kdexport.runtimes import ort_threads
from kdexport.runtimes.ort_session import session_options
from kdexport.runtimes.ort_threads import granted_threads


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes a machine: siblings of each logical processor, those granted, control groups."""

    def make(siblings, granted, groups=(), files=None):
        for cpu, text in enumerate(siblings):
            folder = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
            folder.mkdir(parents=True)
            (folder / "thread_siblings_list").write_text(f"{text}\n")
        (tmp_path / "cgroup").write_text("".join(f"{each}\n" for each in groups))
        for name, text in (files or {}).items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(ort_threads, "_CPUS", tmp_path / "cpu")
        monkeypatch.setattr(ort_threads, "_CGROUPS", tmp_path / "groups")
        monkeypatch.setattr(ort_threads, "_OWN_CGROUPS", tmp_path / "cgroup")
        monkeypatch.setattr(os, "cpu_count", lambda: len(siblings))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(granted), raising=False)

    return make


EIGHT = [str(cpu) for cpu in range(8)]
# Four cores of two threads each.
PAIRS = [f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)]


@pytest.mark.parametrize(
    ("siblings", "granted", "threads"),
    [
        (EIGHT, range(8), None),
        (EIGHT, [2, 5], 2),
        (EIGHT, [7], 1),
        (PAIRS, range(8), None),
        # One thread of each core is all of the cores.
        (PAIRS, range(4), None),
        (PAIRS, [0, 4, 1], 2),
        (PAIRS, [0, 4], 1),
    ],
)
def test_affinity(machine, siblings, granted, threads):
    machine(siblings, granted)
    assert granted_threads() == threads


@pytest.mark.parametrize(
    ("groups", "files", "threads"),
    [
        (["0::/"], {"cpu.max": "200000 100000\n"}, 2),
        (["0::/"], {"cpu.max": "250000 100000\n"}, 3),
        (["0::/"], {"cpu.max": "5000 100000\n"}, 1),
        (["0::/"], {"cpu.max": "max 100000\n"}, None),
        (["0::/"], {"cpu.max": "1600000 100000\n"}, None),
        (["0::/"], {"cpu.max": "garbage"}, None),
        (["0::/"], {}, None),
        # The narrowest of those around a program.
        (["0::/a/b"], {"a/b/cpu.max": "max 1", "a/cpu.max": "3 1", "cpu.max": "5 1"}, 3),
        # Inside a container the path is that of the machine, and the root is its own.
        (["0::/kubepods/pod"], {"cpu.max": "2 1"}, 2),
        (
            ["3:cpu,cpuacct:/a", "2:cpuset:/", "0::/"],
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "200", "cpu,cpuacct/a/cpu.cfs_period_us": "100"},
            2,
        ),
        (["1:cpu:/"], {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100"}, None),
        (["1:cpu:/"], {"cpu/cpu.cfs_quota_us": "1", "cpu/cpu.cfs_period_us": "0"}, None),
    ],
)
def test_quotas(machine, groups, files, threads):
    machine(EIGHT, range(8), groups, files)
    assert granted_threads() == threads


def test_a_quota_within_an_affinity(machine):
    machine(EIGHT, range(4), ["0::/"], {"cpu.max": "3 1"})
    assert granted_threads() == 3
    machine([], [], ["0::/"])
    assert granted_threads() is None


def test_where_the_system_says_nothing(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert granted_threads() is None


def test_sessions_have_what_is_granted(machine):
    machine(EIGHT, [2, 5])
    assert session_options(Path("none.onnx"), None).intra_op_num_threads == 2
    assert session_options(Path("none.onnx"), 7).intra_op_num_threads == 7


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks there")
def test_a_program_of_one_processor_starts_no_thread(three_outputs):
    code = (
        "import os, sys; from pathlib import Path; from kdexport.runtimes.ort import OrtRunner\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "runner = OrtRunner(Path(sys.argv[1]))\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "runner.open()\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(three_outputs)], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "0"
