"""The process that builds one engine.

Its first argument is the kind. It reads a request from its standard input and tells how far it is
in lines of JSON. Started by `process.py`, and by nothing else. It must import no more than it
needs, see `request.py`.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.errors import KdexportError
from .monitor import Progress
from .repeatable import make_repeatable
from .request import EngineRequest, from_message

Builder = Callable[[EngineRequest, Path, Progress], None]


def main() -> None:
    """Builds what the request asks for."""
    kind = sys.argv[1]
    if kind == "rtx":
        make_repeatable()
    # The parent decides; Ctrl-C reaches both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever the libraries print must not come between the lines.
    tell = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(**message: Any) -> None:
        print(json.dumps(message), file=tell, flush=True)

    request, output = from_message(json.load(sys.stdin))
    # A name that is as long wherever the bundle lies: `unet/model.onnx`.
    bundle = request.onnx.parent.parent
    os.chdir(bundle)
    request = replace(request, onnx=request.onnx.relative_to(bundle))
    try:
        BUILDERS[kind]()(request, output, lambda share: send(share=share))
    except KdexportError as error:
        send(error=type(error).__name__, message=str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        what = f"The disk filled up while the engine of '{request.role}' was written"
        advice = "free some space or choose another disk"
        send(error="DiskSpaceError", message=f"{what}; {advice}.")


def _rtx() -> Builder:
    from .rtx import build_rtx

    return build_rtx


def _native() -> Builder:
    from .native import build_native

    return build_native


# Kinds of engines, and what imports the function that builds them.
BUILDERS: Mapping[str, Callable[[], Builder]] = {"rtx": _rtx, "native": _native}
