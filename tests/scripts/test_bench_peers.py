"""`scripts/bench_peers.py`: what it does without the peers' environments."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from pathlib import Path

import pytest
from kdexport.runtimes.bench.report import from_json

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module", autouse=True)
def _scripts_on_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        # What the processes of the contestants import is this tree.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        yield
        for name in [each for each in sys.modules if each.split(".")[0].startswith("bench_peers")]:
            del sys.modules[name]


def test_peers_that_fail_are_rows(micro_bundle, micro_pipeline, tmp_path, monkeypatch):
    peers = importlib.import_module("bench_peers_parts.peers")
    machine = importlib.import_module("bench_peers_parts.machine")
    script = importlib.import_module("bench_peers")
    # One environment is this one, which has no stable-diffusion.cpp; the others are not there.
    (tmp_path / ".venv-sdcpp" / "bin").mkdir(parents=True)
    (tmp_path / ".venv-sdcpp" / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(peers, "ROOT", tmp_path)
    monkeypatch.setattr(machine, "multiply_rates", lambda effort: {"float32": 1e9, "bfloat16": 2e9})
    monkeypatch.setattr(script, "multiply_rates", machine.multiply_rates)
    given = [micro_pipeline, "--bundle", micro_bundle, "--peer", "optimum-onnx"]
    given += ["--peer", "stable-diffusion.cpp", "--exports", tmp_path / "exports"]
    given += ["--steps", 2, "--size", 16, 24, "--rounds", 1, "--cold", 0, "--threads", 1]
    given += ["--json", tmp_path / "a.json", "--markdown", tmp_path / "a.md"]
    given += ["--plot", tmp_path / "a.png"]
    monkeypatch.setattr(sys, "argv", ["bench_peers.py", *map(str, given)])
    script.main()
    data = json.loads((tmp_path / "a.json").read_text())
    ours, theirs = from_json(data)
    assert ours.picture is not None
    assert theirs.error.endswith("No module named 'stable_diffusion_cpp'")
    (failed,) = data["failed"]
    assert (failed["name"], failed["error"][:27]) == ("optimum-onnx", "failed: there is no .venv-o")
    limit = data["machine_limit"]
    assert set(limit["macs"]) == {"text_encoder", "unet", "vae_decoder"}
    total = sum(limit["macs"].values())
    assert math.isclose(limit["shares"][ours.name], total / ours.picture.median / 1e9)
    assert "optimum-onnx | failed" in (tmp_path / "a.md").read_text()
    assert (tmp_path / "a.png").is_file()


def test_an_export_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    peers = importlib.import_module("bench_peers_parts.peers")
    program = tmp_path / "peer.py"
    program.write_text(
        "import json, pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[3])\n"
        "folder.mkdir()\n"
        "(folder / 'model').write_text('12345')\n"
        "assert sys.argv[2].endswith('good')\n"
        "print(json.dumps({'peak_rss': 7}))\n"
    )
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(peers, "ROOT", tmp_path)
    peer = peers.Peer("env", str(program), exported=True)
    with pytest.raises(peers.PeerError, match="its export failed: AssertionError"):
        peers.export(peer, tmp_path / "bad", tmp_path / "out" / "x")
    assert not list((tmp_path / "out").iterdir())
    first = peers.export(peer, tmp_path / "good", tmp_path / "out" / "x")
    assert (first.bytes, first.peak_rss) == (5, 7)
    # The second time it is there.
    assert peers.export(peer, tmp_path / "bad", tmp_path / "out" / "x") == first
    with pytest.raises(peers.PeerError, match="there is no none"):
        peers.export(peers.Peer("none", str(program), True), tmp_path, tmp_path / "out" / "y")
