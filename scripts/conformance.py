"""Loads an ONNX bundle with optimum, unmodified, and compares its pictures with diffusers' own.

Both run in one environment (see `scripts/conformance`), from the same prompt, seed, number of steps
and size, with guidance and without it. Exit status 3 where a picture differs by more than
`--tolerance` of 255 levels anywhere.

optimum's IO binding lays the U-Net's output on its input; without guidance that input is the
sampler's own latents, so PNDM and DDIM, which keep them, draw something else (optimum-onnx 0.1.0,
`ORTUnet.forward`). That case runs without binding; with guidance both ways are checked.

Run: scripts/conformance CHECKPOINT BUNDLE [--steps N] [--height H] [--width W] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Guidance scale, and whether optimum binds inputs and outputs.
CASES = ((7.5, False), (7.5, True), (1.0, False))
PACKAGES = ("optimum-onnx", "diffusers", "transformers", "onnxruntime", "torch")
FAILED = 3


@dataclass(frozen=True)
class Result:
    """How far optimum's picture is from diffusers'.

    Attributes:
        guidance: Guidance scale.
        io_binding: Whether optimum bound inputs and outputs.
        max_abs: Largest difference of a channel of a pixel, in levels of 255.
        psnr_db: PSNR of the 8-bit pictures, or None where they are equal.
    """

    guidance: float
    io_binding: bool
    max_abs: int
    psnr_db: float | None

    def passes(self, tolerance: int) -> bool:
        """Whether the pictures are the same within `tolerance` levels."""
        return self.max_abs <= tolerance


def compare(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> tuple[int, float | None]:
    """Largest difference in levels, and PSNR in dB (None for equal pictures)."""
    difference = ours.astype(np.int16) - theirs.astype(np.int16)
    mean = float(np.mean(np.square(difference, dtype=np.float64)))
    return int(np.abs(difference).max()), 10 * math.log10(255**2 / mean) if mean else None


def run(options: argparse.Namespace) -> list[Result]:
    """Draws every case with both and compares."""
    import diffusers
    import torch

    diffusers.utils.logging.set_verbosity_error()
    reference = diffusers.DiffusionPipeline.from_pretrained(
        options.checkpoint, torch_dtype=torch.float32
    )
    results = []
    for guidance, io_binding in CASES:
        theirs = _draw(reference, guidance, options)
        ours = _draw(_optimum(reference, options.bundle, io_binding), guidance, options)
        results.append(Result(guidance, io_binding, *compare(ours, theirs)))
    return results


def _optimum(reference: Any, bundle: Path, io_binding: bool) -> Any:
    from optimum import onnxruntime

    pipeline = getattr(onnxruntime, f"ORT{type(reference).__name__}")
    return pipeline.from_pretrained(bundle, use_io_binding=io_binding)


def _draw(pipeline: Any, guidance: float, options: argparse.Namespace) -> NDArray[np.uint8]:
    import torch

    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        options.prompt,
        height=options.height,
        width=options.width,
        num_inference_steps=options.steps,
        guidance_scale=guidance,
        generator=torch.Generator("cpu").manual_seed(options.seed),
    ).images[0]
    return np.asarray(image)


def print_table(results: Sequence[Result], tolerance: int) -> None:
    """One line per case."""
    print(f"{'guidance':>8}  {'binding':<7}  {'max of 255':>10}  {'PSNR dB':>8}")
    for each in results:
        binding = "on" if each.io_binding else "off"
        psnr = "equal" if each.psnr_db is None else f"{each.psnr_db:.1f}"
        verdict = "ok" if each.passes(tolerance) else "FAILED"
        print(f"{each.guidance:>8g}  {binding:<7}  {each.max_abs:>10}  {psnr:>8}  {verdict}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="folder of the diffusers pipeline, or its Hub id")
    parser.add_argument("bundle", type=Path, help="ONNX bundle that was made of it")
    parser.add_argument("--prompt", default="a golden vase with different flowers")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--height", type=int, help="pixels; the model's own size if left out")
    parser.add_argument("--width", type=int, help="pixels; the model's own size if left out")
    parser.add_argument("--tolerance", type=int, default=2, help="levels of 255 (default: 2)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args(arguments)


def main() -> int:
    """Compares and reports; returns the exit status."""
    options = parse()
    results = run(options)
    versions = {name: version(name) for name in PACKAGES}
    print(", ".join(f"{name} {value}" for name, value in versions.items()))
    print_table(results, options.tolerance)
    passed = all(each.passes(options.tolerance) for each in results)
    if options.json:
        data = {"versions": versions, "tolerance": options.tolerance, "passed": passed}
        data["results"] = [asdict(each) for each in results]
        options.json.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    return 0 if passed else FAILED


if __name__ == "__main__":
    sys.exit(main())
