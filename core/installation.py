"""Which extras of this package are installed, and whether each of them works."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

from .errors import DependencyError

PACKAGE = "kdexport"
# A package of many libraries may take that long to import from a cold disk.
_LIMIT_S = 120

_REQUIREMENT = re.compile(r"^([\w.-]+)\s*(?:>=\s*([\d.]+))?.*?extra\s*==\s*['\"]([\w-]+)['\"]")


@dataclass(frozen=True)
class Extra:
    """An extra of the package.

    Attributes:
        enables: What it is for.
        probe: A program that imports what it brings and prints what that offers here, in a line.
        served_by: Another package than its own that does as well, or None.
        conflicts: A package whose files its own would overwrite, or None.
    """

    enables: str
    probe: str
    served_by: str | None = None
    conflicts: str | None = None


EXTRAS: Mapping[str, Extra] = {
    "export": Extra(
        "onnx, inspect, verify, demo, calibrate, quantize",
        "import torch, diffusers, transformers, onnx, onnxscript;"
        "print('CUDA' if torch.cuda.is_available() else f'{torch.get_num_threads()} CPU threads')",
    ),
    "cpu": Extra(
        "run and verify ONNX bundles in ONNX Runtime",
        "import onnxruntime as o;"
        "print(*(p.removesuffix('ExecutionProvider') for p in o.get_available_providers()))",
        served_by="onnxruntime-gpu",
    ),
    "gpu": Extra(
        "run ONNX bundles on an NVIDIA GPU: --provider cuda",
        "import onnxruntime as o; assert 'CUDAExecutionProvider' in o.get_available_providers(),"
        "'without its CUDA provider'; print('CUDA provider')",
        conflicts="onnxruntime",
    ),
    "openvino": Extra(
        "--runtime openvino",
        "import openvino as o; print(', '.join(o.Core().available_devices))",
    ),
    "coreml": Extra(
        "coreml, and running its packages (in the evaluator, on a Mac in Core ML)",
        "import coremltools; print('converts')",
    ),
    "tensorrt": Extra(
        "tensorrt: engines of TensorRT for RTX, built with or without a GPU",
        "import tensorrt_rtx, polygraphy; print('builds')",
    ),
    "tensorrt-native": Extra(
        "tensorrt --engine native, on the GPU that the engines are for",
        "import tensorrt, polygraphy; print('imports')",
    ),
}


@dataclass(frozen=True)
class Finding:
    """What was found of an extra.

    Attributes:
        extra: Its name.
        enables: What it is for.
        state: `works`, `missing`, `incomplete`, `outdated` or `broken`.
        detail: What it offers here, what lacks, or why it does not work.
        versions: The packages of it that are installed, and their versions.
        install: The command that makes it work.
    """

    extra: str
    enables: str
    state: str
    detail: str
    versions: Mapping[str, str]
    install: str

    @property
    def works(self) -> bool:
        """Whether everything that the extra enables can be used."""
        return self.state == "works"


def find_extra(name: str) -> Finding:
    """Looks for the packages of an extra, and tries them in a process of their own.

    Args:
        name: A key of `EXTRAS`.

    Raises:
        DependencyError: This package itself is not installed, so nobody knows its extras.
    """
    extra, needed = EXTRAS[name], dict(_requirements(name))
    install = f"pip install '{PACKAGE}[{name}]'"
    if extra.served_by and _version(extra.served_by) is not None:
        needed = dict.fromkeys([extra.served_by], max(needed.values()))
    if extra.conflicts and _version(extra.conflicts) is not None:
        install = f"pip uninstall {extra.conflicts} && {install}"
    versions = {each: version for each in needed if (version := _version(each)) is not None}

    def finding(state: str, detail: str) -> Finding:
        return Finding(name, extra.enables, state, detail, versions, install)

    lacking = [each for each in needed if each not in versions]
    if lacking:
        return finding("incomplete" if versions else "missing", f"no {', '.join(lacking)}")
    old = [
        f"{each} {versions[each]} (needs {least})"
        for each, least in needed.items()
        if _numbers(versions[each]) < _numbers(least)
    ]
    if old:
        return finding("outdated", ", ".join(old))
    # A library that crashes takes nobody else with it.
    try:
        done = subprocess.run(
            [sys.executable, "-c", extra.probe],
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            # Python looks for modules in the working folder first; here nobody has any.
            cwd=sys.prefix,
        )
    except subprocess.TimeoutExpired:
        return finding("broken", f"did not import within {_LIMIT_S} s")
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return finding("broken", said[-1] if said else f"ended with status {done.returncode}")
    said = done.stdout.strip().splitlines()
    return finding("works", said[-1]) if said else finding("broken", "offers nothing here")


def _requirements(extra: str) -> Iterator[tuple[str, str]]:
    """The packages of an extra, and the least version of each (`0` where any does)."""
    try:
        lines = metadata.requires(PACKAGE)
    except metadata.PackageNotFoundError:
        lines = None
    if not lines:
        raise DependencyError(
            f"'{PACKAGE}' runs from a folder without being installed, so its extras are not known; "
            "run `pip install .` there."
        )
    for line in lines:
        found = _REQUIREMENT.match(line)
        if found and found[3] == extra:
            yield found[1], found[2] or "0"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version: `2.13.0+cpu` is (2, 13, 0)."""
    release = re.match(r"[\d.]*", version)
    return tuple(int(each) for each in (release[0] if release else "").split(".") if each)
