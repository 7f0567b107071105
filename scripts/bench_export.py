"""Time, peak memory and size of exporting one component, beside other exporters.

Every export runs in a fresh process, which loads the checkpoint, writes the ONNX file and reports
its own peak resident memory; the exporters take turns. optimum runs in an environment of its own,
made by `scripts/conformance`. `--component pipeline` measures the whole of kdexport's export
without its verification.

Run: python scripts/bench_export.py MODEL... [--precision fp16] [--against optimum-onnx,dynamo]
     [--component unet] [--repeat N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

# The process that starts the exports must stay small: a child's peak memory begins with its
# parent's. So everything else is imported in the children.
PARTS = Path(__file__).resolve().parent / "bench_export_parts"
OPTIMUM = Path(__file__).resolve().parents[1] / ".venv-optimum" / "bin" / "python"
# Exporters to their files.
OURS, OTHERS = "kdexport", {"optimum-onnx": "optimum_onnx.py", "dynamo": "dynamo.py"}
CHILDREN = {OURS: "ours.py", **OTHERS}


@dataclass(frozen=True)
class Result:
    """One export.

    Attributes:
        model: What was exported.
        exporter: A key of `CHILDREN`, ours with its precision.
        process_s: Seconds from the start of the process to its end.
        export_s: The same without importing packages.
        peak_rss: Peak resident memory of the process in bytes.
        size: Size of what was written, in bytes.
    """

    model: str
    exporter: str
    process_s: float
    export_s: float
    peak_rss: int
    size: int


@dataclass(frozen=True)
class Exporter:
    """An exporter and the precision that it is asked for; others than ours write float32."""

    name: str
    precision: str = "fp32"

    def command(self, python: Path) -> list[str]:
        """What starts it, without model and output; `python` is that of optimum."""
        own = str(python) if self.name == "optimum-onnx" else sys.executable
        return [own, str(PARTS / CHILDREN[self.name]), "--precision", self.precision]

    def __str__(self) -> str:
        return f"{self.name} {self.precision}" if self.name == OURS else self.name


def measure(
    exporter: Exporter, model: str, folder: str, options: argparse.Namespace
) -> Result | None:
    """Exports once in a fresh process, to a temporary folder; None where it failed."""
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        output = Path(scratch) / options.component
        command = exporter.command(options.optimum_python)
        command += [folder, str(output), "--component", options.component]
        start = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            print(f"{model}: {exporter} failed with status {done.returncode}.", file=sys.stderr)
            return None
        size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
        said = json.loads(done.stdout.splitlines()[-1])
        return Result(model, str(exporter), seconds, size=size, **said)


def locate(model: str) -> str:
    """Folder of the checkpoint, made or downloaded where needed, in a process of its own."""
    code = "import sys; from kdexport.export.load import load_checkpoint as load; "
    code += "print(load(sys.argv[1]).folder)"
    command = [sys.executable, "-c", code, model]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


def print_table(results: Sequence[Result]) -> None:
    """A row for each model and exporter, the medians of its runs, in Markdown."""
    print("| model | exporter | seconds | of them exporting | peak RSS | written |")
    print("|---|---|--:|--:|--:|--:|")
    for model, name in dict.fromkeys((each.model, each.exporter) for each in results):
        runs = [each for each in results if (each.model, each.exporter) == (model, name)]
        process, export = median(r.process_s for r in runs), median(r.export_s for r in runs)
        peak, size = median(r.peak_rss for r in runs) / 1e9, runs[0].size / 1e6
        print(
            f"| {Path(model).name} | {name} | {process:.1f} | {export:.1f} | {peak:.2f} GB "
            f"| {size:,.0f} MB |"
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", help="diffusers folders, Hub ids or zoo:NAME")
    parser.add_argument("--component", default="unet", help="role in the bundle, or pipeline")
    parser.add_argument(
        "--precision", action="append", help="of kdexport's export; may be repeated (default: fp32)"
    )
    parser.add_argument("--against", default="", help=f"{','.join(OTHERS)}: the U-Net in float32")
    parser.add_argument("--optimum-python", type=Path, default=OPTIMUM)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, in turns")
    parser.add_argument("--scratch", type=Path, help="where to write; the system's own if left out")
    parser.add_argument("--json", type=Path, help="also write the figures of every run here")
    options = parser.parse_args(arguments)
    options.against = [each for each in options.against.split(",") if each]
    for each in options.against:
        if each not in OTHERS:
            parser.error(f"There is no exporter '{each}'; choose {' or '.join(OTHERS)}.")
    if options.against and options.component != "unet":
        parser.error("--against compares the U-Net only.")
    if "optimum-onnx" in options.against and not options.optimum_python.exists():
        parser.error("There is no environment for optimum; run scripts/conformance once.")
    return options


def main() -> None:
    """Measures and reports; exits with status 1 where an export failed."""
    options = parse()
    exporters = [Exporter(OURS, each) for each in options.precision or ["fp32"]]
    exporters += [Exporter(each) for each in options.against]
    results: list[Result | None] = []
    for model in options.models:
        folder = locate(model)
        for _ in range(options.repeat):
            results += [measure(each, model, folder, options) for each in exporters]
    done = [each for each in results if each is not None]
    print_table(done)
    if options.json:
        data = {"component": options.component, "runs": [asdict(each) for each in done]}
        options.json.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    sys.exit(len(done) < len(results))


if __name__ == "__main__":
    main()
