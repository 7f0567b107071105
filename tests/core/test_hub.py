"""What errors of the Hub's library mean."""

import errno
import importlib
import os

import pytest
from huggingface_hub import errors
from kdexport.core.errors import BundleError, CheckpointError, DiskSpaceError
from kdexport.core.hub import download_errors, is_repository_id, upload_errors

# What the library speaks HTTP with is called httpx in some of its versions, httpx2 in others.
httpx = importlib.import_module(errors.HfHubHTTPError.__mro__[1].__module__.split(".")[0])


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a/b", True),
        ("nota-ai/bk-sdm-small", True),
        ("A1/b.c_d-e", True),
        *((each, False) for each in ("a", "a/b/c", "/a", "a/", "-a/b", "a b/c", "ä/b", "a/b\n")),
    ],
)
def test_names_of_repositories(name, fits):
    assert is_repository_id(name) == fits


def answered(kind, status):
    response = httpx.Response(status, request=httpx.Request("GET", "http://hub.example"))
    return kind("a\nlong story", response=response)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (answered(errors.GatedRepoError, 403), "'a/b' is gated: accept its licence on the Hub"),
        (answered(errors.RepositoryNotFoundError, 404), "There is no 'a/b' on the Hub, or it is"),
        (answered(errors.RevisionNotFoundError, 404), "'a/b' has no revision 'v1'"),
        (
            errors.LocalEntryNotFoundError("x"),
            r"'a/b' cannot be downloaded \(no network\); connect",
        ),
        (errors.OfflineModeIsEnabled("x"), r"the local cache, and HF_HUB_OFFLINE or .* is set"),
        (answered(errors.HfHubHTTPError, 500), r"did not deliver 'a/b' \(a\)"),
        (httpx.ReadTimeout("slow"), r"did not deliver 'a/b' \(slow\); try again or do that\."),
        (httpx.ReadTimeout(""), r"did not deliver 'a/b' \(ReadTimeout\)"),
        (PermissionError(13, "Permission denied", "x"), r"\(\[Errno 13\] Permission denied: 'x'\)"),
    ],
)
def test_downloads(error, text):
    with (
        pytest.raises(CheckpointError, match=text) as raised,
        download_errors(CheckpointError, "a/b", "v1", False, "do that"),
    ):
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_not_the_hubs_fault(number):
    told = "disk filled up while 'a/b' was downloaded; free some space where the Hub's cache lies"
    full = OSError(number, os.strerror(number))
    for error in (full, answered_from(full)):
        with (
            pytest.raises(DiskSpaceError, match=told) as raised,
            download_errors(CheckpointError, "a/b", None, False, "do that"),
        ):
            raise error
        assert raised.value.__cause__ is error


def answered_from(cause):
    error = errors.LocalEntryNotFoundError("x")
    error.__cause__ = cause
    return error


def test_the_network_is_turned_off():
    error = answered_from(errors.OfflineModeIsEnabled("x"))
    with (
        pytest.raises(BundleError, match=r"HF_HUB_OFFLINE .* unset it once, or do that\."),
        download_errors(BundleError, "a/b", None, False, "do that"),
    ):
        raise error
    # That was asked for, and the variable makes no difference.
    with (
        pytest.raises(BundleError, match="'a/b' is not in the local cache; connect"),
        download_errors(BundleError, "a/b", None, True, "do that"),
    ):
        raise error


def test_a_cache_only():
    with (
        pytest.raises(BundleError, match=r"'a/b' is not in the local cache; connect .* or do that"),
        download_errors(BundleError, "a/b", None, True, "do that"),
    ):
        raise errors.LocalEntryNotFoundError("x")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (answered(errors.HfHubHTTPError, 401), "log in with `hf auth login`, or pass --token"),
        (answered(errors.RepositoryNotFoundError, 401), "log in with"),
        (answered(errors.HfHubHTTPError, 403), "You may not write to 'a/b'"),
        (answered(errors.RepositoryNotFoundError, 404), "no 'a/b' that you may write to"),
        (answered(errors.HfHubHTTPError, 500), r"did not take 'a/b' \(a\); try again"),
        (httpx.ConnectError("refused"), r"cannot be reached \(refused\)"),
        (ConnectionResetError("reset"), r"cannot be reached \(reset\)"),
    ],
)
def test_uploads(error, text):
    with pytest.raises(BundleError, match=text), upload_errors(BundleError, "a/b"):
        raise error


def test_the_reason_of_an_upload():
    outer = RuntimeError("while uploading")
    outer.__cause__ = answered(errors.HfHubHTTPError, 403)
    with pytest.raises(BundleError, match="You may not"), upload_errors(BundleError, "a/b"):
        raise outer


@pytest.mark.parametrize("error", [KeyError("x"), PermissionError("of a file here")])
def test_other_errors_are_bugs(error):
    with pytest.raises(type(error)), upload_errors(BundleError, "a/b"):
        raise error
