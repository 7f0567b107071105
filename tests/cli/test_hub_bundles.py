"""Commands on bundles of the Hub's cache: they draw, verify and inspect, and leave it alone."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from kdexport.core.manifest import load_manifest
from kdexport.runtimes.hub import find_bundle

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = ("--offline",)


@pytest.fixture
def cache(micro_bundle, tmp_path, monkeypatch):
    """A cache with the repository me/micro, as the Hub's library lays it out; see `test_hub.py`."""
    root = tmp_path / "hf" / "models--me--micro"
    for name in ("blobs", "refs"):
        (root / name).mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    for file in (each for each in micro_bundle.rglob("*") if each.is_file()):
        blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copyfile(file, blob)
        link = root / "snapshots" / COMMIT / file.relative_to(micro_bundle)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("KDEXPORT_CACHE", str(tmp_path / "kd"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return root


def state(folder):
    files = (each for each in folder.rglob("*") if each.is_file())
    return {each: each.read_bytes() for each in files}


def test_run(call, cache, micro_bundle):
    options = ("--steps", 1, "--seed", 1, "--size", 16, 16)
    assert call("run", "me/micro", "a cat", *HUB, *options, "-o", "hub.png")[0] == 0
    assert call("run", micro_bundle, "a cat", *options, "-o", "local.png")[0] == 0
    assert Path("hub.png").read_bytes() == Path("local.png").read_bytes()


def test_inspect(call, cache):
    status, out, _ = call("inspect", "me/micro", *HUB, "--json")
    assert status == 0
    assert json.loads(out)["backend"] == "onnx"


def test_inspect_without_a_bundle(call, cache):
    # It may be a model, whose reader says what is wrong.
    status, _, err = call("inspect", "me/another", *HUB)
    assert status == 1
    assert "'me/another' is not in the local cache" in err


def test_inspect_without_a_bundle_or_torch(call, cache, monkeypatch):
    # Packages would not help.
    monkeypatch.setitem(sys.modules, "torch", None)
    status, _, err = call("inspect", "me/another", *HUB)
    assert status == 1
    assert "'me/another' is not in the local cache" in err
    assert "needs the package" not in err
    status, _, err = call("inspect", "zoo:bk-sdm-small", *HUB)
    assert status == 1
    assert "This command needs the package 'torch'" in err


def test_inspect_takes_no_options_of_models(call, cache, tmp_path):
    status, _, err = call("inspect", "me/micro", *HUB, "--plan", "--revision", "main")
    assert status == 1
    assert "--plan is of models, and 'me/micro' is a bundle; leave it out" in err
    # It was refused before anything was laid out.
    assert not (tmp_path / "kd").exists()


def test_bench(call, cache):
    options = ("--steps", 1, "--size", 16, 16, "--rounds", 1, "--cold", 0, "--json")
    status, out, err = call("bench", "me/micro", *HUB, "--revision", COMMIT, *options)
    assert status == 0, err
    assert json.loads(out)["contestants"][0]["name"].startswith("micro, onnxruntime")


@pytest.mark.parametrize("named", ["me/micro", "{snapshot}", "{laid_out}"])
def test_verify_needs_a_place_for_what_it_finds(call, cache, named):
    laid_out = find_bundle("me/micro", offline=True)
    named = named.format(snapshot=cache / "snapshots" / COMMIT, laid_out=laid_out)
    before = state(cache)
    status, _, err = call("verify", named, *HUB)
    assert status == 1
    assert "lies in a cache of downloads, which is not written to; name a folder" in err
    assert state(cache) == before


@pytest.mark.parametrize("named", ["me/micro", "{snapshot}"])
def test_verify(call, cache, named, tmp_path):
    named = named.format(snapshot=cache / "snapshots" / COMMIT)
    before = state(cache)
    status, out, err = call("verify", named, *HUB, "--steps", 1, "-o", "new/found", "--json")
    assert status == 0, err
    found = Path("new/found")
    assert sorted(each.name for each in found.iterdir()) == ["parity.json", "report.html"]
    assert json.loads((found / "parity.json").read_text()) == json.loads(out)
    assert state(cache) == before
    for manifest in (tmp_path / "kd").rglob("manifest.json"):
        assert load_manifest(manifest.parent).parity is None


def test_verify_a_folder_elsewhere(call, micro_bundle, tmp_path):
    before = state(micro_bundle)
    assert call("verify", micro_bundle, "--steps", 1, "-o", tmp_path / "found")[0] == 0
    assert state(micro_bundle) == before
    assert f"kdexport verify {micro_bundle.name} " in (tmp_path / "found/report.html").read_text()


def test_a_revision_of_a_folder(call, micro_bundle, tmp_path):
    picture = tmp_path / "a.png"
    status, _, err = call("run", micro_bundle, "a cat", "--revision", "v2", "-o", picture)
    assert status == 1
    assert "is no repository of the Hub, so it has no revision 'v2'" in err
