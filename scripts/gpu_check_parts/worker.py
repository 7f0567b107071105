"""The process of one side: reads requests as lines of JSON, answers each with one.

The first line is `{"side": …, "drawing": …}`, answered with the seconds that opening took; every
other one is `{"seed": N, "save": FILE or null}`, answered with the seconds from the text to the
pixels. A failure is answered with `{"error": …}` and ends the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, TextIO

import numpy as np

from .drawers import open_side
from .sides import Drawing, side_from_json


def main() -> None:
    """Serves the process that started this one."""
    # Libraries print to the standard output; only the answers may go there.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        _serve(answers)
    except Exception as error:
        _answer(answers, {"error": one_sentence(error)})
        raise


def one_sentence(error: BaseException) -> str:
    """The first line of an error's message, with its class unless kdexport wrote it."""
    lines = str(error).strip().splitlines() or [""]
    ours = type(error).__module__.startswith("kdexport.")
    return lines[0][:300] if ours else f"{type(error).__name__}: {lines[0][:300]}".rstrip(": ")


def _serve(answers: TextIO) -> None:
    request = json.loads(sys.stdin.readline())
    start = time.perf_counter()
    draw = open_side(side_from_json(request["side"]), Drawing(**request["drawing"]))
    _answer(answers, {"seconds": time.perf_counter() - start})
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        pixels = draw(request["seed"])
        seconds = time.perf_counter() - start
        if request["save"] is not None:
            np.save(request["save"], pixels)
        _answer(answers, {"seconds": seconds})


def _answer(answers: TextIO, data: dict[str, Any]) -> None:
    answers.write(json.dumps(data) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
