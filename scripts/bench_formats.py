"""Speed and nearness of a U-Net in several formats on this CPU, side by side in one run.

All engines are opened first, then called in turns on the same recorded inputs, so that whatever
else the machine does falls on all of them; seconds are medians, and what counts are the ratios to
the first bundle. OpenVINO, where it is installed, runs a bundle in float32 and bfloat16.

Run: python scripts/bench_formats.py CALIB.npz BUNDLE BUNDLE... [--rounds N] [--openvino BUNDLE]
     [--torch-bf16 MODEL] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from kdexport.core.calibration import Calibration
from kdexport.core.compare import compare
from kdexport.core.manifest import load_manifest
from kdexport.runtimes.components import call
from kdexport.runtimes.registry import Engine
from numpy.typing import NDArray

Feed = Mapping[str, NDArray[Any]]
Run = Callable[[Feed], NDArray[Any]]


@dataclass(frozen=True)
class Measured:
    """One engine.

    Attributes:
        name: The bundle, or what ran it.
        megabytes: Size of the U-Net.
        seconds: Median of a call.
        ratio: How many times as fast as the first one.
        psnr_db: Lowest PSNR of its output against the first one's, in dB.
    """

    name: str
    megabytes: float
    seconds: float
    ratio: float
    psnr_db: float


def open_bundle(
    bundle: Path, stack: ExitStack, runtime: str | None = None, provider: str | None = None
) -> tuple[float, Run]:
    """Size of a bundle's U-Net in MB, and what runs it: a runtime or its usual one."""
    manifest = load_manifest(bundle)
    component = manifest.component("unet")
    engine = Engine.choose(manifest, bundle, runtime, provider)
    runner = stack.enter_context(engine.component(component, bundle))
    return manifest.bytes_of(component) / 1e6, lambda feed: np.array(
        call(runner, feed, ["out_sample"])["out_sample"]
    )


def open_torch(model: str) -> tuple[float, Run]:
    """The same for diffusers' own module in bfloat16."""
    import torch
    from kdexport.calib.loop import load_drawing_modules, unet_arguments
    from kdexport.export.load import load_checkpoint

    unet, _ = load_drawing_modules(load_checkpoint(model))
    unet = unet.to(torch.bfloat16)
    size = sum(each.nbytes for each in unet.parameters()) / 1e6

    def run(feed: Feed) -> NDArray[Any]:
        arrays = {name: torch.from_numpy(np.asarray(each)) for name, each in feed.items()}
        time_step = arrays.pop("timestep")
        half = {name: each.to(torch.bfloat16) for name, each in arrays.items()}
        with torch.no_grad():
            output = unet(half["sample"], time_step, return_dict=False, **unet_arguments(half))[0]
        return np.asarray(output.float().numpy())

    return size, run


def measure(
    engines: Mapping[str, tuple[float, Run]], feeds: Sequence[Feed], rounds: int
) -> list[Measured]:
    """Calls all engines in turns; the first call of each is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    lowest = dict.fromkeys(engines, np.inf)
    for number in range(rounds + 1):
        feed = feeds[number % len(feeds)]
        expected: NDArray[Any] | None = None
        for name, (_, run) in engines.items():
            start = time.perf_counter()
            output = run(feed)
            if number:
                seconds[name].append(time.perf_counter() - start)
            expected = output if expected is None else expected
            lowest[name] = min(lowest[name], compare(output, expected).psnr_db)
        print(f"round {number} of {rounds}", flush=True)
    first = median(next(iter(seconds.values())))
    return [
        Measured(name, size, median(seconds[name]), first / median(seconds[name]), lowest[name])
        for name, (size, _) in engines.items()
    ]


def main() -> None:
    """Parses arguments, measures, prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("calibration", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--openvino", type=Path, help="A bundle to run there too.")
    parser.add_argument("--torch-bf16", metavar="MODEL")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with Calibration.open(options.calibration) as data:
        feeds = list(data.samples("unet"))
    rows = max(len(each["sample"]) for each in feeds)
    feeds = [each for each in feeds if len(each["sample"]) == rows][: options.rounds]
    with ExitStack() as stack:
        engines = {each.name: open_bundle(each, stack) for each in options.bundles}
        if options.openvino:
            for provider in ("cpu", "cpu-bf16"):
                name = f"openvino {provider} {options.openvino.name}"
                engines[name] = open_bundle(options.openvino, stack, "openvino", provider)
        if options.torch_bf16:
            engines["diffusers bf16"] = open_torch(options.torch_bf16)
        measured = measure(engines, feeds, options.rounds)
    for each in measured:
        print(
            f"{each.name:28} {each.megabytes:8.1f} MB {each.seconds:8.3f} s "
            f"{each.ratio:6.2f} x {each.psnr_db:7.1f} dB"
        )
    if options.json:
        text = json.dumps([asdict(each) for each in measured], indent=2, default=str)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
