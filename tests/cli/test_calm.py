"""What commands print as processes of their own: with `--json` JSON and nothing else."""

import json
import re
import subprocess
import sys

import pytest

SHORT = ("--schedulers", "", "--max-steps", "2", "--verify-steps", "1")


def command(*arguments):
    words = [sys.executable, "-m", "kdexport", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True)


@pytest.mark.parametrize("backend", ["onnx", "coreml"])
def test_exports(micro_pipeline, tmp_path, backend):
    if backend == "coreml":
        pytest.importorskip("coremltools")
    done = command(backend, micro_pipeline, "-o", tmp_path / "out", *SHORT, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["parity"]["passed"] is True


def test_without_json(micro_bundle, tmp_path):
    done = command("run", micro_bundle, "a cat", "--steps", 1, "-o", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Wrote ")
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["loading", "denoising", "decoding"]
    # Nothing is coloured or drawn over where nobody looks.
    assert not re.search(r"[\x1b\r━]", done.stdout + done.stderr)


def test_inspect_and_doctor(micro_pipeline):
    for arguments in (("inspect", micro_pipeline, "--plan"), ("doctor",), ("models",)):
        done = command(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, ""), arguments
        json.loads(done.stdout)
