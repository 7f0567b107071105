"""Memory for a build."""

from pathlib import Path

import pytest
from kdexport.core.errors import ExportError
from kdexport.export.memory import free_memory
from kdexport.export.tensorrt import build, memory
from kdexport.export.tensorrt.build import build_engine, check_request
from kdexport.export.tensorrt.graph import read_graph
from kdexport.export.tensorrt.memory import memory_needed, require_memory

MB = 1 << 20
V1 = "sys/fs/cgroup/memory"
HUGE = 9223372036854771712


@pytest.fixture
def system(tmp_path):
    """`system({path: text})` writes a root folder with what a system says."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n", encoding="ascii")
        return tmp_path

    return write


def meminfo(megabytes):
    return {"proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable:   {megabytes << 10} kB"}


def version_2(limit, used, inactive):
    stat = f"anon 1\ninactive_file {inactive}\nactive_file 2"
    root = "sys/fs/cgroup"
    return {
        f"{root}/memory.max": limit,
        f"{root}/memory.current": used,
        f"{root}/memory.stat": stat,
    }


def version_1(limit, used, inactive):
    return {
        f"{V1}/memory.limit_in_bytes": limit,
        f"{V1}/memory.usage_in_bytes": used,
        f"{V1}/memory.stat": f"inactive_file 7\ntotal_inactive_file {inactive}",
    }


@pytest.mark.parametrize(
    ("files", "megabytes"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 12 kB"}, None),
        (meminfo(4000), 4000),
        # A container without a limit, and with one; its cache of files is given up.
        (meminfo(4000) | version_2("max", 9000 * MB, 0), 4000),
        (meminfo(4000) | version_2(1000 * MB, 400 * MB, 100 * MB), 700),
        (meminfo(500) | version_2(1000 * MB, 400 * MB, 0), 500),
        (meminfo(4000) | version_1(HUGE, 400 * MB, 0), 4000),
        (meminfo(4000) | version_1(1000 * MB, 600 * MB, 50 * MB), 450),
        (meminfo(4000) | {"sys/fs/cgroup/memory.max": 1000 * MB}, 4000),
    ],
)
def test_free_memory(system, files, megabytes):
    found = free_memory(system(files))
    assert found == (None if megabytes is None else megabytes * MB)


def test_no_statistics_of_files(system):
    files = meminfo(4000) | version_2(1000 * MB, 400 * MB, 0)
    files["sys/fs/cgroup/memory.stat"] = "anon 1"
    assert free_memory(system(files)) == 600 * MB


def test_this_system():
    free = free_memory()
    assert (free is None) is not Path("/proc/meminfo").exists()
    assert free is None or free > 0


@pytest.fixture
def graph(graphs, tmp_path):
    path = graphs.linear(tmp_path / "model.onnx", external=True)
    # As large as the U-Net of BK-SDM-Small, on disks that keep holes.
    with (tmp_path / "model.onnx.data").open("r+b") as file:
        file.truncate(965_000_000)
    return read_graph(path)


def test_estimate(graph):
    # Measured: 3.5 GB.
    assert memory_needed(graph.bytes) == pytest.approx(3.5e9, rel=0.1)


@pytest.mark.parametrize("free", [None, 4_000_000_000, 3_000_000_000, 0])
def test_too_little(graphs, graph, monkeypatch, tmp_path, free):
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(memory, "free_memory", lambda: free)
    built = []
    monkeypatch.setattr(build, "run_build", lambda *given: built.append(given))
    request = graphs.request(graph.path)
    # An engine that the cache has takes no memory.
    check_request(request)
    if free is None or free > memory_needed(graph.bytes):
        require_memory(graph.bytes, "unet")
        build_engine(request, tmp_path / "engine", print)
        assert len(built) == 1
        return
    message = (
        rf"Building the engine of 'unet' needs about 3\.6 GB of memory, and {free / 1e9:.1f} GB "
        r"are free; close other programs, or build on a larger machine\."
    )
    with pytest.raises(ExportError, match=message):
        require_memory(graph.bytes, "unet")
    with pytest.raises(ExportError, match=message):
        build_engine(request, tmp_path / "engine", print)
    assert built == []
