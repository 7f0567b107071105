"""`scripts/compile_coreml.sh`, with a stand-in for Apple's compiler, which only Macs have."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "compile_coreml.sh"

# Takes what `xcrun coremlcompiler` takes; fails on a package that holds a file `broken`.
XCRUN = """#!/bin/sh
if [ "$1" = --find ]; then exit 0; fi
[ "$1 $2" = "coremlcompiler compile" ] || exit 64
[ ! -e "$3/broken" ] || exit 1
mkdir -p "$4/$(basename "$3" .mlpackage).mlmodelc"
"""


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "my bundle"
    for name in ("Unet", "TextEncoder", "controlnet/ControlNet"):
        (folder / f"{name}.mlpackage").mkdir(parents=True)
    for name in ("manifest.json", "vocab.json", "merges.txt"):
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def compile_bundle(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "xcrun").write_text(XCRUN)
    (tmp_path / "bin" / "xcrun").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"

    def run(*arguments, path=path):
        return subprocess.run(
            [str(SCRIPT), *map(str, arguments)],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_folder_that_apples_library_loads(bundle, compile_bundle):
    for _ in range(2):
        done = compile_bundle(bundle)
        assert done.returncode == 0, done.stderr
    found = {str(each.relative_to(bundle / "Resources")) for each in bundle.rglob("Resources/**/*")}
    models = {"Unet.mlmodelc", "TextEncoder.mlmodelc", "controlnet/ControlNet.mlmodelc"}
    assert found == {*models, "controlnet", "vocab.json", "merges.txt"}


def test_a_failure_leaves_the_earlier_resources(bundle, compile_bundle):
    assert compile_bundle(bundle).returncode == 0
    (bundle / "Unet.mlpackage" / "broken").touch()
    before = sorted(bundle.rglob("*"))
    assert compile_bundle(bundle).returncode != 0
    assert sorted(bundle.rglob("*")) == before


def test_bad_use(bundle, compile_bundle, tmp_path):
    assert compile_bundle().returncode == 2
    assert "usage" in compile_bundle(tmp_path).stderr
    done = compile_bundle(bundle, path="/usr/bin:/bin")
    assert (done.returncode, "no coremlcompiler" in done.stderr) == (1, True)
