"""Files of the just-in-time compiler: where, whole, and never silently lost."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from kdexport.core.manifest import record_files
from kdexport.runtimes.pipeline import Pipeline
from kdexport.runtimes.tensorrt.runtime_cache import (
    RuntimeCache,
    cache_folders,
    cache_name,
    write_whole,
)
from kdexport.runtimes.tensorrt.select import Machine

HERE = Machine("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, "12.8", "1.7.1.116")


class Library:
    """The library's cache: a configuration that makes one, and takes blobs that begin right."""

    def __init__(self, blob=b"kernels"):
        self.blob, self.used = blob, None

    def create_runtime_cache(self):
        return self

    def set_runtime_cache(self, cache):
        self.used = cache

    def deserialize(self, blob):
        if not blob.startswith(b"kernels"):
            return False
        self.blob = blob
        return True

    def serialize(self):
        return memoryview(self.blob)


@pytest.fixture(autouse=True)
def _strict():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def test_a_name_for_each_engine_and_machine():
    others = [
        replace(HERE, gpu="NVIDIA L4"),
        replace(HERE, capability=(8, 6)),
        replace(HERE, driver="12.9"),
        replace(HERE, tensorrt="1.8"),
    ]
    names = [cache_name("a", HERE), cache_name("b", HERE)]
    names += [cache_name("a", machine) for machine in others]
    assert len(set(names)) == len(names)
    assert cache_name("a", HERE) == cache_name("a", replace(HERE, memory=1))
    assert all(name.endswith(".bin") and len(name) == 36 for name in names)


def test_where(monkeypatch, tmp_path):
    monkeypatch.setenv("KDEXPORT_CACHE", str(tmp_path / "mine"))
    assert cache_folders(tmp_path) == (tmp_path / ".rtx_cache", tmp_path / "mine" / "rtx")


def test_kept_from_one_start_to_the_next(tmp_path):
    library = Library(b"kernels 1")
    first = RuntimeCache(library, "a.bin", (tmp_path / "x", tmp_path / "y"))
    assert library.used is library
    first.save()
    assert (tmp_path / "x/a.bin").read_bytes() == b"kernels 1"
    assert [each.name for each in (tmp_path / "x").iterdir()] == ["a.bin"]
    again = Library()
    RuntimeCache(again, "a.bin", (tmp_path / "x", tmp_path / "y"))
    assert again.blob == b"kernels 1"


def test_written_only_where_it_changed(tmp_path):
    library = Library()
    cache = RuntimeCache(library, "a.bin", (tmp_path,))
    cache.save()
    (tmp_path / "a.bin").unlink()
    cache.save()
    assert not (tmp_path / "a.bin").exists()
    library.blob += b" more"
    cache.save()
    assert (tmp_path / "a.bin").read_bytes() == b"kernels more"


def test_a_library_that_takes_no_cache(tmp_path):
    library = Library()
    library.set_runtime_cache = lambda _: False
    with pytest.warns(UserWarning, match="takes no cache of what it compiles, so each start"):
        RuntimeCache(library, "a.bin", (tmp_path,))


def test_a_library_that_has_nothing_to_keep(tmp_path):
    library = Library()
    cache = RuntimeCache(library, "a.bin", (tmp_path,))
    library.serialize = lambda: None
    cache.save()
    assert not list(tmp_path.iterdir())


def test_the_second_folder_where_the_first_cannot_be_written(tmp_path):
    (tmp_path / "x").write_text("a file")
    folders = (tmp_path / "x" / "inside", tmp_path / "y")
    with pytest.warns(UserWarning, match="cannot be read"):
        cache = RuntimeCache(Library(b"kernels 2"), "a.bin", folders)
    cache.save()
    assert (tmp_path / "y/a.bin").read_bytes() == b"kernels 2"


@pytest.mark.skipif(
    sys.platform == "win32" or getattr(os, "geteuid", lambda: 1)() == 0,
    reason="folders cannot be made read-only for this user",
)
def test_a_bundle_that_is_read_only(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    folder.chmod(0o555)
    cache = RuntimeCache(Library(), "a.bin", (folder / ".rtx_cache", tmp_path / "y"))
    cache.save()
    assert (tmp_path / "y/a.bin").exists()


def test_nowhere_to_write_is_said(tmp_path):
    (tmp_path / "x").write_text("a file")
    folders = (tmp_path / "x" / "a", tmp_path / "x" / "b")
    with pytest.warns(UserWarning, match="cannot be read"):
        cache = RuntimeCache(Library(), "a.bin", folders)
    with pytest.warns(UserWarning, match=r"cannot be kept, so every start .*x/a'.*x/b'.*KDEXPORT"):
        cache.save()
    # Once is enough.
    cache.save()


def test_a_damaged_file_is_replaced(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"nonsense")
    library = Library()
    with pytest.warns(UserWarning, match="does not take '.*a.bin', which is damaged or of another"):
        cache = RuntimeCache(library, "a.bin", (tmp_path,))
    cache.save()
    assert (tmp_path / "a.bin").read_bytes() == b"kernels"


def test_whole_or_not_at_all(tmp_path, monkeypatch):
    write_whole(tmp_path / "new" / "a", b"old")
    # Others read the bundle, too.
    assert sys.platform == "win32" or (tmp_path / "new" / "a").stat().st_mode & 0o777 == 0o644

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "new" / "a", b"new")
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["a"]
    assert (tmp_path / "new/a").read_bytes() == b"old"


def test_a_bundle_compiles_once(gpu, bundles, tiny_bundle, with_engines, tmp_path):
    """Through the pipeline: the second start finds all that the first one compiled."""
    folder = tmp_path / "bundle"
    tiny_bundle.write_bundle(bundles("sd").tiny, folder)
    manifest = with_engines(folder)
    options = {"steps": 4, "seed": 0, "height": 48, "width": 48}
    machine = gpu()
    with Pipeline.load(folder) as pipe:
        pipe("a", **options)
        # Kept at once, not only at the end.
        assert len(list((folder / ".rtx_cache").iterdir())) == len(manifest.engines)
        # It is no part of the bundle, which is as whole as before.
        assert record_files(folder) == manifest.files
    assert len(machine.library.compiled) == 3
    machine = gpu()
    with Pipeline.load(folder) as pipe:
        pipe("a", **options)
        assert not machine.library.compiled
        pipe("a", **{**options, "height": 64})
        assert machine.library.compiled
    machine = gpu(driver=13000)
    with Pipeline.load(folder) as pipe:
        pipe("a", **options)
    assert len(machine.library.compiled) == 3


def test_native_engines_have_none(gpu, make_bundle):
    gpu("native")
    bundle = make_bundle("sd", "native")
    with Pipeline.load(bundle.folder) as pipe:
        pipe("a", steps=1, height=48, width=48)
    assert not (bundle.folder / ".rtx_cache").exists()
