"""`kdexport bench`, with real processes, on a pipeline that exports in seconds."""

from __future__ import annotations

import json
import shutil

import pytest
from kdexport.runtimes.bench.report import from_json
from PIL import Image

VS = ("--vs", "diffusers", "--cold", 0)
SIZE = ("--steps", 2, "--size", 16, 24, "--rounds", 1, "--threads", 1)


def test_beside_diffusers(call, micro_bundle, tmp_path):
    plot = tmp_path / "bench.png"
    status, out, err = call("bench", micro_bundle, *SIZE, *VS, "--plot", plot, "--json")
    assert status == 0, err
    data = json.loads(out)
    assert (data["drawing"]["height"], data["drawing"]["width"]) == (16, 24)
    ours, theirs = from_json(data)
    assert (ours.name, theirs.name) == ("bundle, onnxruntime cpu", "diffusers")
    assert theirs.psnr_db > 60
    for row in (ours, theirs):
        # PNDM calls the U-Net once more than there are steps.
        assert (row.calls["unet"], row.calls["vae_decoder"]) == (3, 1)
        inside = sum(row.seconds[role] * count for role, count in row.calls.items())
        assert 0 < inside < row.picture.median
        assert row.picture.median < row.start.median
        assert row.bytes > 1000
        assert row.peak_rss > 3e7
    # torch is no part of ours.
    assert "torch" not in ours.versions
    assert "torch" in theirs.versions
    assert Image.open(plot).size[0] > 1000


def test_a_table(call, micro_bundle, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(micro_bundle, other)
    status, out, err = call("bench", micro_bundle, other, *SIZE, "--cold", 0)
    assert status == 0, err
    assert "16x24, 2 steps, guidance 7.5" in out
    assert "bundle, " in out
    assert "other, " in out
    assert "equal" in out


def test_openvino(call, micro_bundle):
    pytest.importorskip("openvino")
    engines = ("--engine", "openvino", "--engine", "openvino:cpu")
    status, _, err = call("bench", micro_bundle, *SIZE, *engines)
    assert (status, "nobody twice" in err) == (1, True)
    status, out, err = call("bench", micro_bundle, *SIZE, *engines[:2], "--json")
    assert status == 0, err
    (row,) = json.loads(out)["contestants"]
    assert row["tool"]["provider"] == "cpu"
    # What it compiles it keeps.
    assert row["cache_bytes"] > 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--engine", "onyx"), "There is no runtime 'onyx'"),
        (("--engine", "mil"), "which the runtime 'mil' does not read"),
        (("--vs", "diffusers,optimum"), "nothing called 'optimum' to compare with"),
        (("--against", "demo"), "--against names a model for --vs"),
        (("--revision", "v1"), "None of these bundles is on the Hub, so none has a revision 'v1'"),
        (("--cores", "one"), "'one' names no CPUs"),
        (("--rounds", 0), "The number of 'rounds' must be at least 1"),
        (("--plot", "a.jpg"), "must have a name that ends in .png"),
        (("--size", 15, 16), "must be a multiple of"),
        (("--engine", "onnxruntime:nowhere"), "ONNX Runtime has no provider 'nowhere'"),
        (("--limit", 0.01), "took longer than 0.01 s"),
    ],
)
def test_refusals(call, micro_bundle, given, said):
    status, _, err = call("bench", micro_bundle, "--rounds", 1, *given)
    assert (status, said in err.replace("\n", " ")) == (1, True), err


def test_no_bundle(call, tmp_path):
    assert call("bench")[0] == 2
    status, _, err = call("bench", tmp_path / "none")
    assert (status, "none" in err) == (1, True)


def test_a_bundle_that_draws_after_pictures(call, micro_bundle, tmp_path):
    other = tmp_path / "control"
    shutil.copytree(micro_bundle, other)
    file = other / "manifest.json"
    data = json.loads(file.read_text())
    data["control"] = {"scale": 1.0, "invert": False, "channels": 3}
    file.write_text(json.dumps(data))
    status, _, err = call("bench", other, *SIZE)
    assert status == 1
    assert "picture" in err


def test_a_damaged_bundle_is_found_by_its_process(call, micro_bundle, tmp_path):
    other = tmp_path / "damaged"
    shutil.copytree(micro_bundle, other)
    with (other / "unet" / "model.onnx").open("ab") as file:
        file.write(b"x")
    status, _, err = call("bench", other, *SIZE)
    assert status == 1
    assert "'damaged, onnxruntime cpu' failed with status 1: " in err
    assert "model.onnx" in err
