"""Everything about kdexport that needs a GPU, in one run.

    scripts/gpu_check --out DIR                 # everything; an hour or two
    scripts/gpu_check --out DIR --quick         # one short pass
    scripts/gpu_check --wheels WHEELS --out DIR # without a network

For each model, with random weights of its exact architecture: the parity of ONNX Runtime on the GPU
and of TensorRT engines with diffusers, by component and by picture; then the speed of each beside
diffusers (eager, and compiled), one picture of one and one of the other in turns, each in a process
of its own. What is missing on the machine is a row that says so. Every part leaves its record in
DIR/records, so that an interrupted run goes on where it stopped; parts that failed are tried again.
DIR/gpu_check.md is the table, DIR/gpu_check.json the same with every single figure.

Written without a GPU: all that can be was run on a CPU, the parts that need a GPU never were.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_check_parts.cases import CASES, FULL, QUICK
from gpu_check_parts.machine import describe, require_gpu
from gpu_check_parts.parts import Record, carry_out
from gpu_check_parts.table import markdown


def main() -> None:
    """Measures and reports."""
    options = _options()
    gpus = require_gpu()
    # It needs kdexport, and neither the help nor the sentence that there is no GPU should.
    from gpu_check_parts.plan import CasePlan

    effort = QUICK if options.quick else FULL
    out = options.out.absolute()
    chosen = [CASES[name] for name in options.case or CASES]
    plans = [CasePlan(case, effort, out, gpus[0].capability) for case in chosen]
    parts = [part for plan in plans for part in plan.parts()]
    if options.list:
        print("\n".join(f"{part.case}: {part.what}" for part in parts))
        return
    records = carry_out(parts, out / "records", options.limit, options.budget, print)
    print(write_report(out, describe(gpus), records))


def write_report(out: Path, machine: dict[str, Any], records: list[Record]) -> str:
    """Writes the table and the figures; returns the table."""
    table = markdown(machine, records)
    (out / "gpu_check.md").write_text(table, encoding="utf-8")
    data = {"machine": machine, "records": [asdict(each) for each in records]}
    text = json.dumps(data, indent=2, ensure_ascii=False)
    (out / "gpu_check.json").write_text(text + "\n", encoding="utf-8")
    return table


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu_check",
        description=__doc__,
        epilog="scripts/gpu_check also takes --wheels DIR (packages to install, without a network) "
        "and --venv\nDIR (the environment that it makes, .venv-gpu if not given).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--out",
        type=Path,
        default=Path("gpu-check"),
        metavar="DIR",
        help="where everything goes, ./gpu-check if not given; 50 GB for all models",
    )
    add("--quick", action="store_true", help="one short pass: few pictures, quick compilation")
    add("--case", action="append", choices=list(CASES), help="only this one, or these")
    add("--limit", type=float, default=900, help="seconds that a part may take (%(default)s)")
    add("--budget", type=float, default=14400, help="seconds for the whole run (%(default)s)")
    add("--list", action="store_true", help="say what would be done")
    return parser.parse_args()


if __name__ == "__main__":
    main()
