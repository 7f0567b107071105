"""Writes the reference values that the tests of the Swift package are held against.

    python scripts/swift_goldens.py OUT

Every value comes from what the package takes the place of: torch's and NumPy's random numbers,
transformers' tokenizers, diffusers' schedulers and image processor, Pillow, hashlib. The tables and
tokenizer files beside them are what an export writes. OUT is replaced; the tests find it by the
environment variable KD_GOLDENS.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from diffusers.utils import logging
from swift_goldens_parts.hashes import write_hashes
from swift_goldens_parts.noise import write_noise
from swift_goldens_parts.pictures import write_pictures
from swift_goldens_parts.runs import write_runs
from swift_goldens_parts.text import write_text
from swift_goldens_parts.unicode import write_unicode

PARTS = {
    "random numbers": write_noise,
    "scalars of Unicode": write_unicode,
    "prompts": write_text,
    "runs of schedulers": write_runs,
    "pictures and embeddings": write_pictures,
    "hashes": write_hashes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the folder to write, which is replaced")
    out = parser.parse_args().out
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for what, write in PARTS.items():
        print(f"{write(out):6} {what}", flush=True)


if __name__ == "__main__":
    main()
