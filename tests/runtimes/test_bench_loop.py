"""`scripts/bench_loop.py` on a hand-made bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_loop.py"


def test_figures_add_up(sd, tmp_path: Path) -> None:
    output = tmp_path / "loop.json"
    command = [sys.executable, SCRIPT, sd.folder, "--steps", "4", "--repeat", "2", "--json", output]
    done = subprocess.run(map(str, command), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    data = json.loads(output.read_text(encoding="utf-8"))
    assert data["steps"] == 4
    assert len(data["runs"]) == 2
    for run in data["runs"]:
        assert set(run["engine_s"]) == {"text_encoder", "unet", "vae_decoder"}
        assert min(*run["engine_s"].values(), run["overhead_s"]) > 0
        assert sum(run["engine_s"].values()) + run["overhead_s"] == pytest.approx(run["total_s"])
    assert "outside engine" in done.stdout
