"""What there is to measure on: the GPU, and the versions of what runs on it.

Run as a program, it says which GPU there is; without one it says so and ends with status 1. It
needs Python only, so that this is known before anything is installed.

Written without a GPU: `nvidia-smi` was stood in for by a script that prints what it does.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

NO_GPU = (
    "There is no NVIDIA GPU here (nvidia-smi finds none), so nothing was measured; run this on a "
    "machine with one."
)
PACKAGES = (
    *("torch", "diffusers", "transformers", "onnx", "onnxruntime", "onnxruntime-gpu"),
    *("onnxruntime-ep-nv-tensorrt-rtx", "tensorrt", "tensorrt-rtx", "polygraphy", "triton"),
)
_QUERY = "name,compute_cap,memory.total,driver_version"


@dataclass(frozen=True)
class Gpu:
    """A GPU, as its driver describes it.

    Attributes:
        name: Such as `NVIDIA GeForce RTX 4090`.
        capability: Compute capability, such as `8.9`.
        memory: Such as `24564 MiB`; some share theirs with the CPU and say `[N/A]`.
        driver: Version of the driver.
    """

    name: str
    capability: str
    memory: str
    driver: str


def find_gpus() -> list[Gpu]:
    """The NVIDIA GPUs of this machine; empty where the driver, or its `nvidia-smi`, is missing."""
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    rows = [line.split(", ") for line in done.stdout.splitlines() if line.strip()]
    return [Gpu(*row) for row in rows]


def describe(gpus: list[Gpu]) -> dict[str, Any]:
    """The machine as JSON values."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "gpus": [asdict(each) for each in gpus],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions,
    }


def require_gpu() -> list[Gpu]:
    """The GPUs there are; ends the program with status 1 and one sentence where there is none."""
    gpus = find_gpus()
    if not gpus:
        sys.exit(NO_GPU)
    return gpus


if __name__ == "__main__":
    for gpu in require_gpu():
        print(f"{gpu.name}, compute capability {gpu.capability}, driver {gpu.driver}")
