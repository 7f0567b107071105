"""The shell scripts, and what they install."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
# What `scripts/test` installs.
EXTRAS = ("export", "cpu", "openvino", "coreml", "tensorrt", "dev")
COMMANDS = [
    "scripts/demo",
    "scripts/test",
    "scripts/bench_peers",
    "scripts/conformance",
    "scripts/swift_test",
    "scripts/compile_coreml.sh",
    ".ci/run",
]


@pytest.mark.parametrize("script", [*COMMANDS, "scripts/environment.sh"])
def test_syntax(script: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


@pytest.mark.parametrize("script", COMMANDS)
def test_is_a_strict_program(script: str) -> None:
    path = ROOT / script
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert os.access(path, os.X_OK)


def pinned(file: str) -> dict[str, list[str]]:
    pins: dict[str, list[str]] = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, version = re.fullmatch(
                r"([\w-]+)==([\w.]+)(?:; python_version .*)?", line
            ).groups()
            pins.setdefault(name, []).append(version)
    return pins


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(each for e in EXTRAS for each in extras[e]),
    ]
    names = {re.split("[<>=!~;]", each)[0] for each in wanted}
    assert names - set(pinned("constraints.txt")) == set()


@pytest.mark.parametrize("name", ["torch", "onnx", "onnxruntime", "uv", "setuptools"])
def test_environments_agree(name: str) -> None:
    assert pinned("constraints.txt")[name] == pinned("constraints-optimum.txt")[name]


def environment(python: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-c", f"set -euo pipefail; source scripts/environment.sh; {code}"]
    variables = {**os.environ, "PYTHON": str(python)}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)


def test_old_python_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\n[ $1 = -VV ] && echo Python 3.8.0\n", encoding="utf-8")
    old.chmod(0o755)
    done = environment(old, "plain_environment .venv-never constraints.txt")
    assert done.returncode == 1
    assert "kdexport needs Python 3.10 or newer" in done.stderr
    assert not (ROOT / ".venv-never").exists()


def test_fingerprint_follows_its_sources(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("torch==1\n", encoding="utf-8")

    def fingerprint(requirements: str) -> str:
        done = environment(Path(sys.executable), f"_fingerprint {constraints} {requirements}")
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = fingerprint("torch")
    assert fingerprint("torch") == first
    assert fingerprint("onnx") != first
    constraints.write_text("torch==2\n", encoding="utf-8")
    assert fingerprint("torch") != first
