"""A build in a process of its own.

There it gives the same bytes again, see `repeatable.py`. It can be cancelled at once, although
TensorRT for RTX does not ask for minutes whether to go on; its memory is given back when it ends;
and what a crash of the library takes along is that process only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from ...core import errors
from ...core.errors import ExportError, KdexportError
from .monitor import Progress
from .request import EngineRequest, to_message
from .worker import BUILDERS

# The package may be found in the working folder, as `python -m` does it; the process has another.
_START = (
    "import sys; sys.path.append(sys.argv[2]); from kdexport.export.tensorrt.worker import main; "
    "main()"
)
# All that a build on the CPU may depend on; the length of the rest would move its memory.
_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")
# Every message is as long, wherever the ONNX file lies: reading it moves memory too.
_MESSAGE_BYTES = 1 << 16


def run_build(request: EngineRequest, output: Path, progress: Progress) -> None:
    """Builds an engine in another process and waits for it; see `build_engine`."""
    # Python compiles what the process imports now: in there that would move memory, once.
    BUILDERS[request.kind]()
    with tempfile.TemporaryFile() as said, _at_a_fixed_place(request) as placed:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, request.kind, str(Path(__file__).absolute().parents[3])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=_environment(request.kind),
            # Python may look for modules there; not where files of others lie.
            cwd=sys.prefix,
        )
        try:
            failure = _follow(process, to_message(placed, output), progress)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        if failure is not None:
            raise failure
        if process.returncode:
            said.seek(0)
            raise _crash(request, process.returncode, said.read().decode(errors="replace"))


@contextmanager
def _at_a_fixed_place(request: EngineRequest) -> Iterator[EngineRequest]:
    """The request, with its file under a name that is as long wherever it lies.

    Names move the memory that the bytes of an engine depend on, see `repeatable.py`.
    """
    if request.kind != "rtx" or sys.platform == "win32":
        yield request
        return
    onnx = request.onnx.absolute()
    with tempfile.TemporaryDirectory(prefix="kdexport-") as folder:
        link = Path(folder, onnx.parent.name)
        link.symlink_to(onnx.parent, target_is_directory=True)
        yield replace(request, onnx=link / onnx.name)


def _follow(
    process: subprocess.Popen[bytes], message: Mapping[str, Any], progress: Progress
) -> KdexportError | None:
    """Passes on what the process tells until it ends; the error that it met, if any."""
    assert process.stdin is not None
    assert process.stdout is not None
    _send(process.stdin, message)
    failure: KdexportError | None = None
    for line in process.stdout:
        told = json.loads(line)
        if "error" in told:
            kind: type[KdexportError] = getattr(errors, told["error"])
            failure = kind(told["message"])
        else:
            progress(told["share"])
    process.wait()
    return failure


def _send(pipe: IO[bytes], message: Mapping[str, Any]) -> None:
    try:
        pipe.write(json.dumps(message).encode().ljust(_MESSAGE_BYTES))
        pipe.close()
    except BrokenPipeError:
        # It ended before it listened; its exit status says why.
        return


def _crash(request: EngineRequest, status: int, said: str) -> Exception:
    """What a process means that ended without telling."""
    if status < 0:
        name = signal.Signals(-status).name
        return ExportError(
            f"The build of the engine of '{request.role}' for {request.target} was ended by "
            f"{name}; where that is SIGKILL the machine most likely ran out of memory, so close "
            "other programs or build on a larger machine."
        )
    return RuntimeError(f"The build of '{request.role}' failed with status {status}:\n{said}")


def _environment(kind: str) -> dict[str, str]:
    """What the process gets of this one's environment.

    A GPU's driver and libraries are found through variables of many names.
    """
    kept = dict(os.environ)
    if kind == "rtx":
        kept = {name: value for name, value in kept.items() if name.upper() in _KEPT}
        # See `repeatable.py`; the first build leaves no compiled modules for the second.
        kept |= {"MALLOC_ARENA_MAX": "1", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    # Otherwise Polygraphy would take the other library.
    kept.pop("POLYGRAPHY_USE_TENSORRT_RTX", None)
    given = [each for each in kept.pop("PYTHONPATH", "").split(os.pathsep) if each]
    paths = [str(Path(each).absolute()) for each in given]
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
