"""What every exporter's process does: export once, then say what that took.

Its imports are not counted as export, and its last line of output is the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path


def arguments() -> argparse.Namespace:
    """`model` (a folder), `output` (to make) and `component`, from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--component", default="unet")
    parser.add_argument("--precision", default="fp32")
    return parser.parse_args()


def report(export: Callable[[], None]) -> None:
    """Exports, and prints seconds and the peak memory of this process."""
    start = time.perf_counter()
    export()
    seconds = time.perf_counter() - start
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps({"export_s": seconds, "peak_rss": peak}))
