"""`scripts/bench_export.py` on a narrow model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_export.py"


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(map(str, command), capture_output=True, text=True)


@pytest.mark.slow
def test_measures_a_fresh_process(narrow, tmp_path: Path) -> None:
    output = tmp_path / "export.json"
    model = narrow("bk-sdm-small")
    done = bench(model, "--component", "text_encoder", "--scratch", tmp_path, "--json", output)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(output.read_text(encoding="utf-8"))["runs"]
    assert run["process_s"] > run["export_s"] > 0
    # Python with torch and diffusers takes a few hundred MB; the model itself nearly nothing.
    assert 1e8 < run["peak_rss"] < 3e9
    weights = (model / "text_encoder" / "model.safetensors").stat().st_size
    assert 0.9 * weights < run["size"] < 1.2 * weights + 200_000
    assert [path.name for path in tmp_path.iterdir()] == ["export.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--against", "optimum", "--component", "vae_decoder"), "the U-Net in float32 only"),
        (("--against", "optimum", "--optimum-python", "nowhere"), "run scripts/conformance once"),
    ],
)
def test_refuses(arguments: tuple[str, ...], message: str) -> None:
    done = bench("zoo:bk-sdm-small-narrow", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
