"""Bundles by their Hub id, from a cache laid out on disk as the Hub's library lays it out."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from kdexport import Pipeline
from kdexport.core.errors import BundleError, DependencyError, OptionError
from kdexport.core.manifest import check_files, load_manifest
from kdexport.runtimes import hub
from kdexport.runtimes.hub import fetch_manifest, find_bundle, is_on_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "76543210fedcba9876543210fedcba9876543210"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Caches of their own, for the Hub's library and for this package."""
    # The library reads its environment once, when it is imported.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("KDEXPORT_CACHE", str(tmp_path / "kd"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hf"


@pytest.fixture
def cached(caches):
    """Puts a folder into the Hub's cache: blobs by hash, a snapshot of links, a branch."""

    def put(folder, repository="me/micro", commit=COMMIT, branch="main"):
        root = caches / f"models--{repository.replace('/', '--')}"
        for name in ("blobs", "refs"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "refs" / branch).write_text(commit)
        for file in (each for each in Path(folder).rglob("*") if each.is_file()):
            blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            shutil.copyfile(file, blob)
            link = root / "snapshots" / commit / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        return root / "snapshots" / commit

    return put


def contents(folder):
    files = (each for each in folder.rglob("*") if each.is_file())
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in files}


def draw(bundle, **options):
    with Pipeline.load(bundle, **options) as pipe:
        return np.asarray(pipe("a cat", steps=2, seed=0, height=16, width=24))


def test_what_is_on_the_hub(tmp_path):
    assert is_on_hub("me/micro")
    for local in ("micro", "./me/micro", "/me/micro", "a/b/c", "me\\micro", "", Path("me/micro")):
        assert not is_on_hub(local)
    (tmp_path / "me" / "micro").mkdir(parents=True)
    assert not is_on_hub("me/micro")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_it_draws_the_same_picture(cached, micro_bundle, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    snapshot = cached(micro_bundle)
    assert (snapshot / "unet" / "model.onnx.data").is_symlink()
    here = draw(micro_bundle, runtime=runtime)
    assert np.array_equal(draw("me/micro", runtime=runtime, offline=True), here)


def test_plain_files_beside_the_cache(cached, micro_bundle, tmp_path, caches):
    snapshot = cached(micro_bundle)
    before = contents(caches)
    folder = find_bundle("me/micro", offline=True)
    assert folder == tmp_path / "kd" / "hub" / "me--micro" / COMMIT / "micro"
    assert not [each for each in folder.rglob("*") if each.is_symlink()]
    check_files(load_manifest(folder), folder)
    # No bytes are there twice.
    data = "unet/model.onnx.data"
    assert (folder / data).stat().st_ino == (snapshot / data).stat().st_ino
    assert find_bundle("me/micro", revision=COMMIT, offline=True) == folder
    assert contents(caches) == before


def test_copies_where_there_are_no_links(cached, micro_bundle, monkeypatch):
    def refuse(*paths):
        raise OSError(18, "Invalid cross-device link")

    cached(micro_bundle)
    monkeypatch.setattr(os, "link", refuse)
    folder = find_bundle("me/micro", offline=True)
    check_files(load_manifest(folder), folder)


@pytest.mark.parametrize("when", ["_download", "link_or_copy"])
def test_another_process_is_first(cached, micro_bundle, tmp_path, monkeypatch, when):
    cached(micro_bundle)
    real, first = getattr(hub, when), []

    def meanwhile(*given):
        monkeypatch.setattr(hub, when, real)
        first.append(find_bundle("me/micro", offline=True).stat().st_ino)
        return real(*given)

    monkeypatch.setattr(hub, when, meanwhile)
    folder = find_bundle("me/micro", offline=True)
    # What the other one reads from stays, and nothing else is left.
    assert [folder.stat().st_ino] == first
    assert [each.name for each in folder.parent.iterdir()] == ["micro"]
    check_files(load_manifest(folder), folder)


def test_two_processes_at_once(cached, micro_bundle, tmp_path):
    cached(micro_bundle)
    code = (
        "import sys; from huggingface_hub import constants\n"
        "from kdexport.runtimes.hub import find_bundle\n"
        "constants.HF_HUB_CACHE = sys.argv[1]; print('ready', flush=True); sys.stdin.readline()\n"
        "print(find_bundle('me/micro', offline=True))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "hf")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    assert [each.stdout.readline() for each in both] == ["ready\n"] * 2
    for each in both:
        each.stdin.write("go\n")
        each.stdin.flush()
    told = {each.communicate()[0].strip() for each in both}
    assert [each.returncode for each in both] == [0, 0]
    (folder,) = map(Path, told)
    assert [each.name for each in folder.parent.iterdir()] == ["micro"]
    check_files(load_manifest(folder), folder)


def test_a_rest_is_replaced(cached, micro_bundle):
    cached(micro_bundle)
    folder = find_bundle("me/micro", offline=True)
    (folder / "manifest.json").unlink()
    assert find_bundle("me/micro", offline=True) == folder
    check_files(load_manifest(folder), folder)


def test_a_place_that_cannot_be_written(cached, micro_bundle, tmp_path):
    cached(micro_bundle)
    (tmp_path / "kd").write_text("a file")
    with pytest.raises(BundleError, match="is a file, so nothing can be written below it"):
        find_bundle("me/micro", offline=True)


def test_a_revision(cached, micro_bundle, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(micro_bundle, other)
    cached(micro_bundle)
    cached(other, commit=OTHER, branch="v2")
    found = [find_bundle("me/micro", revision=each, offline=True) for each in (None, "v2", OTHER)]
    assert [each.parent.name for each in found] == [COMMIT, OTHER, OTHER]


def test_a_folder_goes_first(cached, micro_bundle, tmp_path):
    cached(micro_bundle)
    (tmp_path / "me" / "micro").mkdir(parents=True)
    assert find_bundle("me/micro", offline=True) == Path("me/micro")
    with pytest.raises(OptionError, match="no repository of the Hub, so it has no revision 'v2'"):
        find_bundle("me/micro", revision="v2")
    with pytest.raises(BundleError, match="is no kdexport bundle"):
        Pipeline.load("me/micro")


def test_what_is_not_in_the_cache():
    with pytest.raises(BundleError, match="'me/micro' is not in the local cache; connect to the"):
        find_bundle("me/micro", offline=True)


def test_a_part_of_it_in_the_cache(cached, micro_bundle, tmp_path):
    snapshot = cached(micro_bundle)
    (snapshot / "unet" / "model.onnx.data").unlink()
    with pytest.raises(BundleError, match=r"'me/micro' lacks 'unet/model\.onnx\.data'"):
        find_bundle("me/micro", offline=True)
    assert not list((tmp_path / "kd").rglob("micro"))


def test_a_changed_file(cached, micro_bundle):
    snapshot = cached(micro_bundle)
    blob = (snapshot / "unet" / "model.onnx").resolve()
    blob.write_bytes(blob.read_bytes() + b"\0")
    with pytest.raises(BundleError, match=r"'unet/model.onnx' .* was changed or damaged"):
        Pipeline.load("me/micro", offline=True)


@pytest.mark.parametrize("missing", [False, True])
def test_how_to_get_rid_of_a_damaged_file(cached, micro_bundle, caches, missing):
    cached(micro_bundle)
    folder = find_bundle("me/micro", offline=True)
    file = folder / "unet" / "model.onnx"
    if missing:
        file.unlink()
    else:
        # Both caches have the same file.
        file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(BundleError) as raised:
        Pipeline.load("me/micro", offline=True)
    told = str(raised.value)
    assert f"'{folder}'" in told
    assert "delete that folder and 'models--me--micro' in the Hub's cache" in told
    shutil.rmtree(folder)
    shutil.rmtree(caches / "models--me--micro")
    cached(micro_bundle)
    assert draw("me/micro", offline=True).shape == (16, 24, 3)


def test_a_damaged_manifest(cached, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "manifest.json").write_text('{"schema_version": 99}')
    cached(tmp_path / "made")
    with pytest.raises(BundleError, match="has schema version 99"):
        find_bundle("me/micro", offline=True)


def test_nothing_listens(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(BundleError, match=r"'me/micro' cannot be downloaded \(no network\)"):
        _at("http://127.0.0.1:9", "me/micro")


def test_the_network_is_turned_off():
    told = "'me/micro' is not in the local cache, and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"
    with pytest.raises(BundleError, match=told):
        _at("http://127.0.0.1:9", "me/micro", HF_HUB_OFFLINE="1")


def _at(endpoint, repository, **more):
    """Finds a bundle in a process whose Hub is elsewhere, and raises what that raised."""
    code = (
        "import sys; from kdexport.runtimes.hub import find_bundle\n"
        "try: find_bundle(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error, sep=': ')"
    )
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": "home", **more}
    command = [sys.executable, "-c", code, repository]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    kind, _, text = done.stdout.strip().partition(": ")
    assert kind == "BundleError"
    raise BundleError(text)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyError, match="need the package 'huggingface_hub'"):
        fetch_manifest("me/micro")
