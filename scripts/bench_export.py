"""Time, peak memory and size of exporting one component, beside optimum's exporter.

Every export runs in a fresh process, which loads the checkpoint, writes the ONNX file and reports
its own peak resident memory. optimum runs in an environment of its own, made by
`scripts/conformance`.

Run: python scripts/bench_export.py MODEL [--component unet] [--against optimum] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

# The process that starts the exports must stay small: a child's peak memory begins with its
# parent's. So everything else is imported in the children.
OPTIMUM = Path(__file__).resolve().parents[1] / ".venv-optimum" / "bin" / "python"


@dataclass(frozen=True)
class Result:
    """One export.

    Attributes:
        exporter: `kdexport` or `optimum`.
        process_s: Seconds from the start of the process to its end.
        export_s: The same without importing packages.
        peak_rss: Peak resident memory of the process in bytes.
        size: Size of what was written, in bytes.
    """

    exporter: str
    process_s: float
    export_s: float
    peak_rss: int
    size: int


def kdexport_child(options: argparse.Namespace) -> Callable[[], None]:
    """Imports what kdexport needs and returns the export."""
    import torch
    from kdexport.core.options import OnnxOptions
    from kdexport.export.load import load_checkpoint
    from kdexport.export.parts import pipeline_parts
    from kdexport.export.skeleton import build_skeleton, fake_mode, parameter_shapes
    from kdexport.export.to_onnx import write_onnx
    from kdexport.export.weights import open_weights
    from kdexport.export.wrap import vae_factor

    def export() -> None:
        checkpoint = load_checkpoint(options.model)
        chosen = OnnxOptions(precision=options.precision, attention=options.attention)
        factor = vae_factor(build_skeleton(checkpoint.component("vae"), torch.float32).config)
        parts = {part.role: part for part in pipeline_parts(checkpoint, chosen, factor)}
        part = parts[options.component]
        source = checkpoint.component(part.component)
        skeleton = build_skeleton(source, part.dtype)
        weights = open_weights(source, parameter_shapes(skeleton))
        opset, folder = chosen.resolved_opset, options.output
        write_onnx(part.wrap(skeleton), fake_mode(), weights, folder, opset=opset, static={})

    return export


def optimum_child(options: argparse.Namespace) -> Callable[[], None]:
    """Imports what optimum needs and returns the export of the U-Net, as `main_export` does it."""
    import torch
    from diffusers import UNet2DConditionModel
    from optimum.exporters.onnx.convert import export as optimum_export
    from optimum.exporters.tasks import TasksManager

    def export() -> None:
        checkpoint = Path(options.model)
        unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", torch_dtype=torch.float32)
        encoder = checkpoint / ("text_encoder_2" if _is_xl(checkpoint) else "text_encoder")
        config = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
        unet.config.requires_aesthetics_score = False
        unet.config.text_encoder_projection_dim = config["projection_dim"]
        make = TasksManager.get_exporter_config_constructor(
            exporter="onnx",
            library_name="diffusers",
            task="semantic-segmentation",
            model_type="unet-2d-condition",
        )
        options.output.mkdir(parents=True)
        described = make(unet.config, int_dtype="int64", float_dtype="fp32")
        optimum_export(unet, described, options.output / "model.onnx")

    return export


CHILDREN = {"kdexport": kdexport_child, "optimum": optimum_child}


def child(options: argparse.Namespace) -> None:
    """Exports in this process; the last line of its output is the figures as JSON."""
    export = CHILDREN[options.child](options)
    start = time.perf_counter()
    export()
    seconds = time.perf_counter() - start
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps({"export_s": seconds, "peak_rss": peak}))


def measure(exporter: str, model: str, options: argparse.Namespace) -> Result:
    """Exports once in a fresh process, to a temporary folder."""
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        output = Path(scratch) / options.component
        python = sys.executable if exporter == "kdexport" else str(options.optimum_python)
        command = [python, __file__, model, "--child", exporter, "--output", str(output)]
        for name in ("component", "precision", "attention"):
            command += [f"--{name}", getattr(options, name)]
        start = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - start
        size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
        return Result(exporter, seconds, size=size, **json.loads(done.stdout.splitlines()[-1]))


def locate(model: str) -> str:
    """Folder of the checkpoint, made or downloaded where needed, in a process of its own."""
    code = "import sys; from kdexport.export.load import load_checkpoint as load; "
    code += "print(load(sys.argv[1]).folder)"
    command = [sys.executable, "-c", code, model]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


def print_table(results: Sequence[Result]) -> None:
    """One line per exporter, the medians of its runs."""
    print(f"{'exporter':<9} {'process s':>10} {'export s':>9} {'peak RSS GB':>12} {'size MB':>9}")
    for name in dict.fromkeys(each.exporter for each in results):
        runs = [each for each in results if each.exporter == name]
        process, export = median(r.process_s for r in runs), median(r.export_s for r in runs)
        peak, size = median(r.peak_rss for r in runs) / 1e9, runs[0].size / 1e6
        print(f"{name:<9} {process:>10.1f} {export:>9.1f} {peak:>12.2f} {size:>9.1f}")


def _is_xl(checkpoint: Path) -> bool:
    return (checkpoint / "text_encoder_2").is_dir()


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="diffusers folder, Hub id or zoo:NAME")
    parser.add_argument("--component", default="unet", help="role in the bundle (default: unet)")
    parser.add_argument("--precision", default="fp32", help="of kdexport's export")
    parser.add_argument("--attention", default="fused", help="of kdexport's export")
    parser.add_argument("--against", choices=["optimum"], help="the U-Net in float32 only")
    parser.add_argument("--optimum-python", type=Path, default=OPTIMUM)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, in turns")
    parser.add_argument("--scratch", type=Path, help="where to write; the system's own if left out")
    parser.add_argument("--json", type=Path, help="also write the figures of every run here")
    parser.add_argument("--child", choices=list(CHILDREN), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.against and (options.component, options.precision) != ("unet", "fp32"):
        parser.error("--against optimum compares the U-Net in float32 only.")
    if options.against and not options.optimum_python.exists():
        parser.error("There is no environment for optimum; run scripts/conformance once.")
    return options


def main() -> None:
    """Measures and reports."""
    options = parse()
    if options.child:
        child(options)
        return
    folder = locate(options.model)
    exporters = ["kdexport", *([options.against] if options.against else [])]
    results = [measure(each, folder, options) for _ in range(options.repeat) for each in exporters]
    print_table(results)
    if options.json:
        data = {"model": options.model, "component": options.component}
        data["runs"] = [asdict(each) for each in results]
        options.json.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
