"""Engines that are kept and used again."""

import errno
import json
import os
import shutil

import pytest
from kdexport.core.errors import BundleError, DiskSpaceError, ExportError
from kdexport.export.tensorrt import cache
from kdexport.export.tensorrt.cache import cache_folder, cached_engine


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KDEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


@pytest.fixture
def builds(monkeypatch, folder):
    """The requests that were built; a build writes its role instead of an engine."""
    built = []

    def build(request, output, progress):
        built.append(request)
        progress(1.0)
        output.write_bytes(f"engine of {request.role}".encode())

    monkeypatch.setattr(cache, "build_engine", build)
    return built


@pytest.fixture
def request_(graphs, tmp_path):
    return graphs.request(graphs.linear(tmp_path / "model.onnx"))


def files(folder):
    return {each for each in folder.rglob("*") if each.is_file()} if folder.exists() else set()


def test_where_it_lies(folder, monkeypatch, tmp_path):
    assert cache_folder() == folder
    monkeypatch.delenv("KDEXPORT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "kdexport" / "engines"


def test_built_once(request_, folder, tmp_path):
    """By TensorRT for RTX itself."""
    pytest.importorskip("tensorrt_rtx")
    told = []
    assert cached_engine(request_, tmp_path / "one" / "a.engine", told.append) is False
    assert told
    told.clear()
    assert cached_engine(request_, tmp_path / "b.engine", told.append) is True
    assert told == []
    engine = (tmp_path / "b.engine").read_bytes()
    assert engine.startswith(b"vtrt")
    assert (tmp_path / "one" / "a.engine").read_bytes() == engine
    (entry,) = folder.iterdir()
    record = json.loads((entry / "record.json").read_text())
    assert (record["bytes"], record["role"], record["target"]) == (len(engine), "unet", "sm_89")


def test_links(request_, builds, folder, tmp_path):
    output = tmp_path / "unet.engine"
    output.write_bytes(b"earlier")
    cached_engine(request_, output, print)
    (kept,) = folder.glob("*/engine")
    assert output.samefile(kept)
    # Again over itself; nothing else is left beside it.
    assert cached_engine(request_, output, print) is True
    assert output.read_bytes() == b"engine of unet"
    assert [each.name for each in tmp_path.glob(".*")] == []


def test_copies(request_, builds, folder, tmp_path, monkeypatch):
    """Where the cache lies on another volume, or on one without links."""

    def refuse(*paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    output = tmp_path / "unet.engine"
    cached_engine(request_, output, print)
    (kept,) = folder.glob("*/engine")
    assert output.read_bytes() == kept.read_bytes()
    assert not output.samefile(kept)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("engine", b"engine of une"),
        ("engine", b"engine of Unet"),
        ("engine", None),
        ("record.json", b'{"sha256": "0'),
        ("record.json", b"[]"),
        ("record.json", b'{"bytes": 14}'),
        ("record.json", None),
    ],
)
def test_a_damaged_entry(request_, builds, folder, tmp_path, name, content):
    cached_engine(request_, tmp_path / "a", print)
    (damaged,) = folder.glob(f"*/{name}")
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    assert cached_engine(request_, tmp_path / "b", print) is False
    assert (tmp_path / "b").read_bytes() == b"engine of unet"
    assert cached_engine(request_, tmp_path / "c", print) is True
    assert len(builds) == 2


@pytest.mark.parametrize("error", [ExportError("no"), KeyboardInterrupt()])
def test_a_build_that_ends_early(request_, folder, tmp_path, monkeypatch, error):
    def build(request, output, progress):
        output.write_bytes(b"half of")
        raise error

    monkeypatch.setattr(cache, "build_engine", build)
    with pytest.raises(type(error)):
        cached_engine(request_, tmp_path / "a", print)
    assert not (tmp_path / "a").exists()
    assert not folder.exists()


def test_what_the_caller_raises(request_, builds, folder, tmp_path):
    def stop(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_engine(request_, tmp_path / "a", stop)
    assert files(folder) == set()


def test_a_full_disk(request_, builds, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_CODE_BYTES", 1 << 60)
    with pytest.raises(
        DiskSpaceError,
        match=r"needs 1152921504.*; it is the cache .*KDEXPORT_CACHE puts elsewhere\.$",
    ):
        cached_engine(request_, tmp_path / "a", print)
    assert builds == []
    assert not (tmp_path / "a").exists()


def test_a_cache_that_nobody_can_write_to(request_, builds, folder, tmp_path):
    folder.parent.write_bytes(b"a file")
    with pytest.raises(BundleError, match=r"is a file.*KDEXPORT_CACHE puts elsewhere\.$"):
        cached_engine(request_, tmp_path / "a", print)
    assert builds == []


@pytest.mark.parametrize("whole", [True, False])
def test_two_builds_that_end_at_once(request_, builds, folder, tmp_path, monkeypatch, whole):
    """The other one's entry appears just before this one's; it will do where it is whole."""
    real = shutil.copytree

    def build(request, output, progress):
        output.write_bytes(b"engine of unet")

    monkeypatch.setattr(cache, "build_engine", build)
    cached_engine(request_, tmp_path / "first", print)
    (entry,) = folder.iterdir()
    real(entry, tmp_path / "other")
    shutil.rmtree(entry)

    def collide(staging, target):
        real(tmp_path / "other", target)
        if not whole:
            (target / "engine").write_bytes(b"half")
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr("kdexport.core.folder._swap", collide)
    if whole:
        assert cached_engine(request_, tmp_path / "a", print) is False
        assert (tmp_path / "a").read_bytes() == b"engine of unet"
    else:
        with pytest.raises(OSError, match="not empty"):
            cached_engine(request_, tmp_path / "a", print)


def test_an_entry_that_is_being_replaced(request_, builds, folder, tmp_path, monkeypatch):
    cached_engine(request_, tmp_path / "a", print)
    (kept,) = folder.glob("*/engine")
    real = cache._is_whole

    def vanish(entry):
        found = real(entry)
        kept.unlink()
        return found

    monkeypatch.setattr(cache, "_is_whole", vanish)
    assert cached_engine(request_, tmp_path / "b", print) is False
    assert (tmp_path / "b").read_bytes() == b"engine of unet"
    assert len(builds) == 2
