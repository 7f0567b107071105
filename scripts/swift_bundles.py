"""Exports the Core ML bundles that the Swift package is tested with.

    python scripts/swift_bundles.py FOLDER

The model in the box, and small twins with random weights of models of other kinds; together they
have everything that a bundle can have.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

# Folder to model and options.
BUNDLES = {
    "demo": ("demo", "--with-encoder"),
    # Two text encoders, sizes as inputs, chunks, one row at a time.
    "sdxl": (
        "zoo:koala-700m-narrow",
        *("--chunk", "--guidance-batch", "1", "--with-encoder", "--max-steps", "8"),
        *("--schedulers", "euler-ancestral,dpm++2m"),
    ),
    # A ControlNet, one step, a tiny decoder.
    "sketch": (
        "zoo:sdxs-512-dreamshaper-sketch-narrow",
        "--max-steps",
        "4",
        "--schedulers",
        "ddim",
    ),
    # A guidance embedding, a tiny encoder, earlier hidden states for prompts.
    "lcm": (
        "zoo:edgefusion-guided-narrow",
        *("--with-encoder", "--decoder", "zoo:taesd-narrow", "--clip-skip", "1"),
        *("--max-steps", "8", "--schedulers", "ddim"),
    ),
    "vpred": ("zoo:bk-sdm-tiny-vpred-narrow", "--max-steps", "8", "--schedulers", "ddim"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    for name, (model, *options) in BUNDLES.items():
        export = ["coreml", model, "-o", str(folder / name), *options, "--no-verify"]
        print(f"kdexport {' '.join(export)}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "kdexport", *export], capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr)


if __name__ == "__main__":
    main()
