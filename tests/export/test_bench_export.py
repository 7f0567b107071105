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


@pytest.mark.slow
def test_the_whole_pipeline_and_another_exporter(narrow, tmp_path: Path) -> None:
    model, output = narrow("koala-700m"), tmp_path / "export.json"
    done = bench(model, "--component", "pipeline", "--precision", "fp16", "--json", output)
    assert done.returncode == 0, done.stderr
    assert "| koala-700m | kdexport fp16 |" in done.stdout
    done = bench(model, "--against", "dynamo", "--repeat", 2, "--json", output)
    assert done.returncode == 0, done.stderr
    runs = json.loads(output.read_text(encoding="utf-8"))["runs"]
    assert [each["exporter"] for each in runs] == ["kdexport fp32", "dynamo"] * 2
    assert 0.5 < runs[0]["size"] / runs[1]["size"] < 2


def test_an_export_that_fails(tmp_path: Path) -> None:
    done = bench("demo", "--component", "nothing", "--scratch", tmp_path)
    assert done.returncode == 1
    assert "demo: kdexport fp32 failed with status 1." in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--against", "optimum-onnx", "--component", "vae_decoder"), "compares the U-Net only"),
        (("--against", "optimum-onnx", "--optimum-python", "nowhere"), "run scripts/conformance"),
        (("--against", "tf2onnx"), "no exporter 'tf2onnx'; choose optimum-onnx or dynamo"),
    ],
)
def test_refuses(arguments: tuple[str, ...], message: str) -> None:
    done = bench("zoo:bk-sdm-small-narrow", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
