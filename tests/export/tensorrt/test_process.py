"""A build in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from kdexport.core import errors
from kdexport.core.errors import ExportError
from kdexport.export.tensorrt import process
from kdexport.export.tensorrt.process import run_build


@pytest.fixture
def child(monkeypatch):
    """`child(code)` runs other code in the process; gives the processes that were started."""
    started = []
    real = subprocess.Popen

    def install(code):
        def start(*arguments, **options):
            started.append(real(*arguments, **options))
            return started[-1]

        monkeypatch.setattr(process, "_START", code)
        monkeypatch.setattr(process.subprocess, "Popen", start)
        return started

    return install


@pytest.fixture
def request_(graphs, tmp_path):
    return graphs.request(graphs.linear(tmp_path / "model.onnx"))


LISTEN = "import json, os, signal, sys, time; message = json.load(sys.stdin)\n"


def tell(**message):
    return f"print({json.dumps(json.dumps(message))}, flush=True)\n"


def run(request_, tmp_path, progress=lambda share: None):
    run_build(request_, tmp_path / "engine", progress)


def test_a_build(request_, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    told = []
    run(request_, tmp_path, told.append)
    assert (tmp_path / "engine").read_bytes().startswith(b"vtrt")
    assert told == sorted(told)
    assert told


@pytest.mark.parametrize("name", ["OptionError", "ExportError", "DependencyError", "ProviderError"])
def test_errors(child, request_, tmp_path, name):
    started = child(LISTEN + tell(share=0.5) + tell(error=name, message="It is so."))
    told = []
    with pytest.raises(getattr(errors, name), match=r"^It is so\.$") as error:
        run(request_, tmp_path, told.append)
    assert type(error.value).__name__ == name
    assert told == [0.5]
    assert started[0].returncode == 0


def test_an_error_of_the_worker(request_, tmp_path):
    """Weights that vanish between check and build."""
    pytest.importorskip("tensorrt_rtx")
    request_.onnx.write_bytes(b"no protobuf")
    with pytest.raises(ExportError, match="cannot parse"):
        run(request_, tmp_path)


@pytest.mark.parametrize("before", [LISTEN, "import os, signal\n"])
def test_a_killed_process(child, request_, tmp_path, before):
    """By the system, for want of memory: while it builds, or before it listened."""
    child(before + "os.kill(os.getpid(), signal.SIGKILL)")
    message = (
        r"^The build of the engine of 'unet' for sm_89 was ended by SIGKILL; where that is SIGKILL "
        r"the machine most likely ran out of memory, so close other programs or build on a larger "
        r"machine\.$"
    )
    with pytest.raises(ExportError, match=message):
        run(request_, tmp_path)


def test_a_process_that_never_listens(child, request_, tmp_path):
    child("raise SystemExit(3)")
    # Long enough to fill the pipe.
    long = replace(request_, role="r" * 200_000)
    with pytest.raises(RuntimeError, match="failed with status 3"):
        run(long, tmp_path)


def test_a_bug(child, request_, tmp_path):
    child(LISTEN + "raise LookupError('lost')")
    with pytest.raises(
        RuntimeError, match=r"'unet' failed with status 1:\n(.*\n)*LookupError: lost"
    ):
        run(request_, tmp_path)


def test_what_the_library_prints(child, request_, tmp_path):
    """It comes on the error output, never between the lines of progress."""
    child(
        "import sys\nfrom kdexport.export.tensorrt import worker\n"
        "def build(request, output, progress):\n"
        "    print('chatter'); import os; os.write(1, b'more chatter')\n"
        "    folder = os.path.dirname(str(output))\n"
        "    assert os.path.basename(os.getcwd()).startswith('kdexport-')\n"
        "    assert str(request.onnx) == os.path.join(os.path.basename(folder), 'model.onnx')\n"
        "    progress(1.0); output.write_bytes(b'made')\n"
        "worker.BUILDERS = {'rtx': lambda: build}\nworker.make_repeatable = lambda: None\n"
        "worker.main()\n"
    )
    told = []
    run(request_, tmp_path, told.append)
    assert told == [1.0]
    assert (tmp_path / "engine").read_bytes() == b"made"


def test_what_the_caller_raises_ends_it(child, request_, tmp_path):
    started = child(LISTEN + tell(share=0.1) + "time.sleep(100)")

    def stop(share):
        raise KeyboardInterrupt

    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(request_, tmp_path, stop)
    assert time.monotonic() - before < 30
    assert started[0].returncode == -signal.SIGKILL


@pytest.fixture
def python_raises():
    """KeyboardInterrupt, also where these tests run in the background, which ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are not raised there")
def test_ctrl_c_ends_it(child, request_, tmp_path, python_raises):
    """While the library says nothing for minutes."""
    started = child(LISTEN + tell(share=0.1) + "time.sleep(100)")
    threads = []

    def interrupt(share):
        threads.append(threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)))
        threads[0].start()

    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(request_, tmp_path, interrupt)
    threads[0].join()
    assert time.monotonic() - before < 30
    assert started[0].returncode == -signal.SIGKILL


def test_ctrl_c_in_its_own_terminal(child, request_, tmp_path):
    """It reaches both; the parent decides."""
    child(
        "import os, signal\nfrom kdexport.export.tensorrt import worker\n"
        "def build(request, output, progress):\n"
        "    os.kill(os.getpid(), signal.SIGINT); output.write_bytes(b'made')\n"
        "worker.BUILDERS = {'rtx': lambda: build}\nworker.make_repeatable = lambda: None\n"
        "worker.main()\n"
    )
    run(request_, tmp_path)
    assert (tmp_path / "engine").read_bytes() == b"made"


@pytest.mark.parametrize(("kind", "kept"), [("rtx", False), ("native", True)])
def test_environment(child, graphs, tmp_path, monkeypatch, kind, kept):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/libraries")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("POLYGRAPHY_USE_TENSORRT_RTX", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["packages", *sys.path[1:2], ""]))
    monkeypatch.chdir(tmp_path)
    code = "open(message['output'], 'w').write(json.dumps([dict(os.environ), os.getcwd()]))"
    child(LISTEN + code)
    run(graphs.request(graphs.linear(tmp_path / "model.onnx"), kind=kind), tmp_path)
    given, folder = json.loads((tmp_path / "engine").read_text())
    assert given["LD_LIBRARY_PATH"] == "/libraries"
    assert given["PATH"] == os.environ["PATH"]
    assert given["PYTHONSAFEPATH"] == "1"
    assert given["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path / "packages")
    assert "" not in given["PYTHONPATH"].split(os.pathsep)
    assert ("CUDA_VISIBLE_DEVICES" in given) is kept
    assert (given.get("MALLOC_ARENA_MAX") == "1") is not kept
    assert "POLYGRAPHY_USE_TENSORRT_RTX" not in given
    assert os.path.realpath(folder) == os.path.realpath(sys.prefix)


def test_a_disk_that_fills_up(child, request_, tmp_path):
    child(
        "import errno\nfrom kdexport.export.tensorrt import worker\n"
        "def build(request, output, progress):\n"
        "    raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "worker.BUILDERS = {'rtx': lambda: build}\nworker.make_repeatable = lambda: None\n"
        "import sys; sys.argv = ['', 'rtx']; worker.main()\n"
    )
    with pytest.raises(errors.DiskSpaceError, match="while the engine of 'unet' was written; free"):
        run(request_, tmp_path)
