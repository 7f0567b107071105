"""Output folders and files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import BundleError, DiskSpaceError

_BLOCK = 1 << 20

# A system that does not let a program write; the last is a volume that nobody writes to.
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def whole_folder(target: Path, *, needed_bytes: int = 0, overwrite: bool = False) -> Iterator[Path]:
    """Yields a folder in a temporary sibling of `target`, which takes its place at the end.

    It has the name of `target`, for what is written may say it. On any exception, an interrupt
    included, it is removed and an earlier `target` is left as it was.

    Args:
        target: The folder to make; its parents are created.
        needed_bytes: Free space that the volume must have before anything is written.
        overwrite: Replace an existing folder instead of refusing it.

    Raises:
        BundleError: `target` exists and `overwrite` is off, at the beginning or by the end, or is
            not a folder, or nothing can be written there.
        DiskSpaceError: The volume has less than `needed_bytes` free, or filled up after all.
    """
    target = Path(target).absolute()
    require_vacant(target, overwrite)
    with _staged(target, needed_bytes) as staging:
        made = staging / target.name
        made.mkdir()
        made.chmod(0o755)
        yield made
        # Another process may have made it meanwhile.
        require_vacant(target, overwrite)
        _swap(made, target)


@contextmanager
def whole_file(target: Path, *, needed_bytes: int = 0, overwrite: bool = False) -> Iterator[Path]:
    """Yields the path to write a file to, which becomes `target` as `whole_folder` says.

    Args:
        target: The file to make; its parents are created.
        needed_bytes: Free space that the volume must have before anything is written.
        overwrite: Replace an existing file instead of refusing it.

    Raises:
        BundleError: `target` exists and `overwrite` is off, or is a folder, or nothing can be
            written there.
        DiskSpaceError: The volume has less than `needed_bytes` free, or filled up after all.
    """
    target = Path(target).absolute()
    require_vacant_file(target, overwrite)
    with _staged(target, needed_bytes) as staging:
        yield staging / target.name
        (staging / target.name).replace(target)


@contextmanager
def _staged(target: Path, needed_bytes: int) -> Iterator[Path]:
    """Yields a temporary sibling folder of `target`; whatever is in it at the end is removed."""
    made: list[Path] = []
    try:
        staging = _make_staging(target, needed_bytes, made)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except BaseException as error:
        for folder in reversed(made):
            # Another process may have something in it by now, as in the user's cache.
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskSpaceError(
                f"The disk filled up while '{target}' was written, and nothing was kept; free "
                "some space or choose another disk."
            ) from error
        raise


def require_vacant_file(target: Path, overwrite: bool) -> None:
    """Raises `BundleError` where `target` is a folder, or a file that must not be replaced."""
    if target.is_dir():
        raise BundleError(f"The output '{target}' is a folder; choose a file.")
    if target.exists() and not overwrite:
        raise BundleError(
            f"The output '{target}' already exists; choose another file or pass --overwrite."
        )


def require_vacant(target: Path, overwrite: bool) -> None:
    """Raises `BundleError` where `target` is a file, or a folder that must not be replaced."""
    if target.is_file():
        raise BundleError(f"The output '{target}' is a file; choose a folder.")
    if target.is_dir() and not overwrite and any(target.iterdir()):
        raise BundleError(
            f"The output '{target}' already exists; choose another folder or pass --overwrite."
        )


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raises `DiskSpaceError` where the volume of `folder` has less than `needed_bytes` free."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise DiskSpaceError(
            f"Writing to '{folder}' needs {needed_bytes / 1e9:.2f} GB, but only {free / 1e9:.2f} "
            "GB are free; free some space or choose another disk."
        )


def megabytes(count: int) -> str:
    """Bytes in MB, or in GB from a thousand MB on."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def link_or_copy(source: Path, target: Path) -> None:
    """Makes a hard link where both lie on one volume, else a copy: weights are gigabytes."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def user_cache() -> Path:
    """The user's cache folder of this package: `$KDEXPORT_CACHE`, or `~/.cache/kdexport`."""
    # Empty is as good as not set, and not the working folder.
    return Path(os.environ.get("KDEXPORT_CACHE") or "~/.cache/kdexport").expanduser()


def downloads_cache() -> Path:
    """Where bundles of the Hub are laid out: `OWNER--NAME/COMMIT/NAME` each."""
    return user_cache() / "hub"


def is_downloaded(bundle: Path) -> bool:
    """Whether a folder lies in `downloads_cache`, whose files may be those of the Hub's cache."""
    return downloads_cache().resolve() in bundle.resolve().parents


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file as lower-case hexadecimal digits, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _make_staging(target: Path, needed_bytes: int, made: list[Path]) -> Path:
    """Makes the temporary sibling of `target`; parents that it makes are appended to `made`."""
    missing = []
    folder = target.parent
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    if not folder.is_dir():
        raise BundleError(f"'{folder}' is a file, so nothing can be written below it.")
    require_space(folder, needed_bytes)
    try:
        for each in reversed(missing):
            each.mkdir()
            made.append(each)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        staging.chmod(0o755)
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
        raise BundleError(
            f"'{folder}' cannot be written to ({error.strerror}); choose another folder."
        ) from error
    return staging


def _swap(staging: Path, target: Path) -> None:
    """Renames `staging` to `target`; an earlier `target` is deleted only after that worked."""
    if not target.exists():
        staging.rename(target)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    earlier = target.rename(retired / target.name)
    try:
        staging.rename(target)
    except BaseException:
        earlier.rename(target)
        raise
    finally:
        shutil.rmtree(retired, ignore_errors=True)
