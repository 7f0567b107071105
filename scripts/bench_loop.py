"""What drawing costs beside the engine: tokenizing, guidance, the sampler's arithmetic, checks.

Draws a few pictures from a bundle, timing every call into the engine from the outside; what is left
of the total is kdexport's own. The first picture warms up and is not counted.

Run: python scripts/bench_loop.py BUNDLE [--steps N] [--size H W] [--repeat N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdexport.runtimes.image import to_images
from kdexport.runtimes.ort import OrtRunner
from kdexport.runtimes.pipeline import Pipeline
from kdexport.runtimes.plan import Plan
from kdexport.runtimes.request import Request


@dataclass(frozen=True)
class Drawing:
    """One picture.

    Attributes:
        total_s: Seconds from the request to the picture.
        engine_s: Seconds inside the engine, by component.
        calls: Calls of the U-Net.
    """

    total_s: float
    engine_s: Mapping[str, float]
    calls: int

    @property
    def overhead_s(self) -> float:
        """Seconds outside the engine."""
        return self.total_s - sum(self.engine_s.values())


@contextmanager
def timed_engine() -> Iterator[dict[str, float]]:
    """Yields the seconds spent in ONNX Runtime, by component, filled while the block runs."""
    seconds: dict[str, float] = {}
    # Below the checks of the contract: those are kdexport's own work.
    original = OrtRunner._run

    def run(self: OrtRunner, *arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(self, *arguments)
        finally:
            role = self.model.parent.name
            seconds[role] = seconds.get(role, 0.0) + time.perf_counter() - start

    OrtRunner._run = run  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        OrtRunner._run = original  # type: ignore[method-assign]


def draw(pipeline: Pipeline, request: Request) -> tuple[Drawing, Plan]:
    """Draws once, from the text to the picture."""
    with timed_engine() as seconds:
        start = time.perf_counter()
        last = deque(pipeline.generate(request), maxlen=1).pop()
        to_images(pipeline.decode(last), last.plan, pipeline.manifest)
        total = time.perf_counter() - start
    return Drawing(total, seconds, last.total), last.plan


def print_table(drawings: Sequence[Drawing]) -> None:
    """The picture with the median total, a line per component, then what is left."""
    middle = sorted(drawings, key=lambda each: each.total_s)[len(drawings) // 2]
    rows = {**middle.engine_s, "outside engine": middle.overhead_s, "total": middle.total_s}
    print(f"{'':<16}{'ms':>10}{'share':>9}")
    for name, seconds in rows.items():
        print(f"{name:<16}{1000 * seconds:>10.2f}{seconds / middle.total_s:>9.2%}")
    each = 1000 * middle.overhead_s / middle.calls
    print(f"{each:.2f} ms outside the engine for each of {middle.calls} calls of the U-Net")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--steps", type=int, help="the bundle's default if left out")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="pixels")
    parser.add_argument("--guidance", type=float, help="the bundle's default if left out")
    parser.add_argument("--threads", type=int, help="of ONNX Runtime")
    parser.add_argument("--repeat", type=int, default=3, help="counted pictures (default: 3)")
    parser.add_argument("--json", type=Path, help="also write the figures of every picture here")
    return parser.parse_args(arguments)


def main() -> None:
    """Measures and reports."""
    options = parse()
    height, width = options.size or (None, None)
    request = Request(
        prompt="a golden vase with different flowers",
        steps=options.steps,
        guidance=options.guidance,
        seed=0,
        height=height,
        width=width,
    )
    with Pipeline.load(options.bundle, threads=options.threads) as pipeline:
        _, plan = draw(pipeline, request)
        drawings = [draw(pipeline, request)[0] for _ in range(options.repeat)]
    print(f"{plan.height}x{plan.width}, {plan.steps} steps, guidance {plan.guidance:g}")
    print_table(drawings)
    if options.json:
        data = {"height": plan.height, "width": plan.width, "steps": plan.steps}
        data["guidance"] = plan.guidance
        data["runs"] = [{**asdict(each), "overhead_s": each.overhead_s} for each in drawings]
        options.json.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
