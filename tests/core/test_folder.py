import errno
import hashlib
import os
from pathlib import Path

import pytest
from kdexport.core.errors import BundleError, DiskSpaceError
from kdexport.core.folder import (
    downloads_cache,
    is_downloaded,
    require_space,
    sha256_of,
    user_cache,
    whole_file,
    whole_folder,
)


def fill(target, **options):
    with whole_folder(target, **options) as staging:
        (staging / "new").write_text("new")


def break_off(staging, error):
    (staging / "new").write_text("new")
    raise error


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_appears_whole_with_its_parents(tmp_path):
    target = tmp_path / "a" / "b" / "out"
    with whole_folder(target) as staging:
        (staging / "new").write_text("new")
        assert staging.name == "out"
        assert not target.exists()
    assert entries(target) == ["new"]
    assert entries(target.parent) == ["out"]
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_an_error(tmp_path, error):
    target = tmp_path / "a" / "out"
    with pytest.raises(error), whole_folder(target) as staging:
        break_off(staging, error)
    assert entries(tmp_path) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_earlier_folder_survives_an_error(tmp_path, overwrite):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old")
    error = ValueError if overwrite else BundleError
    message = "broken" if overwrite else "already exists; .* --overwrite"
    with pytest.raises(error, match=message), whole_folder(target, overwrite=overwrite):
        raise ValueError("broken")
    assert entries(target) == ["old"]
    assert entries(tmp_path) == ["out"]


def test_overwrite_replaces(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old")
    fill(target, overwrite=True)
    assert entries(target) == ["new"]
    assert entries(tmp_path) == ["out"]


def test_who_is_first_stays(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(BundleError, match="already exists"), whole_folder(target):
        fill(target)
    assert entries(target) == ["new"]
    assert entries(tmp_path) == ["out"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out")
    assert entries(tmp_path / "out") == ["new"]


def test_a_file_is_never_replaced(tmp_path):
    (tmp_path / "out").write_text("file")
    with pytest.raises(BundleError, match="is a file"):
        fill(tmp_path / "out", overwrite=True)
    with pytest.raises(BundleError, match="is a file"):
        fill(tmp_path / "out" / "below")
    assert (tmp_path / "out").read_text() == "file"


def test_a_disk_that_is_too_small(tmp_path):
    with pytest.raises(DiskSpaceError, match=r"needs 1000000000.00 GB, but only .* free some"):
        fill(tmp_path / "a" / "out", needed_bytes=10**18)
    assert entries(tmp_path) == []
    require_space(tmp_path, 0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up(tmp_path, number):
    with pytest.raises(DiskSpaceError, match="filled up while"), whole_folder(tmp_path / "a" / "b"):
        raise OSError(number, os.strerror(number))
    assert entries(tmp_path) == []


def test_other_system_errors_pass(tmp_path):
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "out"):
        (tmp_path / "missing").read_text()
    assert entries(tmp_path) == []


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr("kdexport.core.folder.tempfile.mkdtemp", refuse)
    with pytest.raises(BundleError, match=r"cannot be written to \(Permission denied\); choose"):
        fill(tmp_path / "a" / "out")
    assert entries(tmp_path) == []


def test_sha256(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "f").write_bytes(data)
    assert sha256_of(tmp_path / "f") == hashlib.sha256(data).hexdigest()


def test_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KDEXPORT_CACHE", str(tmp_path))
    assert user_cache() == tmp_path
    monkeypatch.delenv("KDEXPORT_CACHE")
    assert user_cache() == Path.home() / ".cache" / "kdexport"
    monkeypatch.setenv("KDEXPORT_CACHE", "")
    assert user_cache() == Path.home() / ".cache" / "kdexport"


def test_what_is_downloaded(monkeypatch, tmp_path):
    monkeypatch.setenv("KDEXPORT_CACHE", str(tmp_path / "kd"))
    assert downloads_cache() == tmp_path / "kd" / "hub"
    assert is_downloaded(downloads_cache() / "me--x" / "0" / "x")
    (tmp_path / "link").symlink_to(downloads_cache())
    assert is_downloaded(tmp_path / "link" / "me--x" / "0" / "x")
    assert not is_downloaded(downloads_cache())
    assert not is_downloaded(tmp_path / "kd" / "hubs" / "x")


def test_a_volume_that_is_only_read(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("kdexport.core.folder.tempfile.mkdtemp", refuse)
    with pytest.raises(BundleError, match=r"cannot be written to \(Read-only file system\)"):
        fill(tmp_path / "out")
    assert entries(tmp_path) == []


def test_a_parent_that_others_use_by_now(tmp_path):
    """The error is the block's, not that of a folder that cannot be removed."""

    def fail():
        with whole_folder(tmp_path / "a" / "b" / "out"):
            (tmp_path / "a" / "other").mkdir()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert entries(tmp_path / "a") == ["other"]


def write(target, **options):
    with whole_file(target, **options) as staging:
        staging.write_text("new")
        assert not target.exists() or target.read_text() == "old"


def test_a_file_appears_whole(tmp_path):
    write(tmp_path / "a" / "out")
    assert (tmp_path / "a" / "out").read_text() == "new"
    assert entries(tmp_path / "a") == ["out"]


def test_a_file_is_replaced_only_when_told_so(tmp_path):
    (tmp_path / "out").write_text("old")
    with pytest.raises(BundleError, match="already exists; choose another file or pass --overwri"):
        write(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "old"
    write(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").read_text() == "new"
    assert entries(tmp_path) == ["out"]
    with pytest.raises(BundleError, match="is a folder; choose a file"):
        write(tmp_path, overwrite=True)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_of_a_file_nothing_is_left_after_an_error(tmp_path, error):
    (tmp_path / "out").write_text("old")

    def fail(target):
        with whole_file(target, overwrite=True) as staging:
            staging.write_text("new")
            raise error

    for target in (tmp_path / "out", tmp_path / "a" / "b"):
        with pytest.raises(error):
            fail(target)
    with pytest.raises(DiskSpaceError, match="free some space"):
        write(tmp_path / "c" / "d", needed_bytes=10**18)
    assert entries(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == "old"
