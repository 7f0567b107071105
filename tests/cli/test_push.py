"""`kdexport push` to a Hub that stands in for the real one, and back from there."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from kdexport.core.errors import BundleError, DependencyError, OptionError
from kdexport.runtimes import publish
from kdexport.runtimes.publish import PushOptions, prepare_push, push_bundle

ANYTHING = ("--unverified", "--random-weights")


@pytest.fixture(scope="module")
def hub(stand_in_hub):
    with stand_in_hub.running() as server:
        yield server


@pytest.fixture
def kdexport(hub, tmp_path):
    """Runs a command as a user does, whose Hub is the one that stands in: (status, out, err)."""
    # The library reads these once, when it is imported: a process of its own.
    elsewhere = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    # What is spoken with Xet's servers is not HTTP alone.
    elsewhere |= {"HF_HUB_DISABLE_XET": "1", "KDEXPORT_CACHE": str(tmp_path / "kd")}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}

    def run(*arguments, **environment):
        command = [sys.executable, "-m", "kdexport", *map(str, arguments)]
        env = {**inherited, **elsewhere, **environment}
        done = subprocess.run(
            command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def copy(micro_bundle, tmp_path):
    return shutil.copytree(micro_bundle, tmp_path / "copy")


def expected(bundle, repository):
    files = (each for each in bundle.rglob("*") if each.is_file())
    content = {each.relative_to(bundle).as_posix(): each.read_bytes() for each in files}
    card = content["README.md"].decode()
    assert "path/to/bundle" in card
    return content | {"README.md": card.replace("path/to/bundle", repository).encode()}


def test_there_and_back(kdexport, hub, stand_in_hub, micro_bundle, tmp_path):
    token = ("--token", stand_in_hub.WRITER)
    pushed = ("push", micro_bundle, "me/micro", *ANYTHING, *token, "--json")
    status, out, err = kdexport(*pushed)
    assert status == 0, err
    told = json.loads(out)
    assert told["url"] == f"{hub.url}/me/micro"
    # The bytes that arrived are those of the bundle.
    arrived = dict(hub.files("me/micro"))
    assert arrived.pop(".gitattributes") == b""
    assert arrived == expected(micro_bundle, "me/micro")
    assert told["files"] == {path: len(content) for path, content in arrived.items()}
    assert hub.messages[-1] == "Upload pipeline as onnx, made by kdexport 0.1.0"
    assert hub.sent()
    assert told["commit"] == hub.repositories["me/micro"].branches["main"]

    # Another time nothing is sent, and nothing changes.
    before = list(hub.sent())
    status, out, err = kdexport(*pushed)
    assert status == 0, err
    assert hub.sent() == before
    assert json.loads(out)["commit"] == told["commit"]

    # What comes back draws the same picture, and is checked on the way.
    drawing = ("a cat", "--steps", 2, "--seed", 4, "--size", 16, 24)
    assert kdexport("run", micro_bundle, *drawing, "-o", "here.png")[0] == 0
    status, _, err = kdexport("run", "me/micro", *drawing, "-o", "there.png")
    assert status == 0, err
    assert (tmp_path / "there.png").read_bytes() == (tmp_path / "here.png").read_bytes()
    links = (tmp_path / "hf").rglob("model.onnx.data")
    assert all(each.is_symlink() for each in links)
    # And once more with no network at all.
    offline = ("run", "me/micro", *drawing, "--offline", "-o", "off.png")
    status, _, err = kdexport(*offline, HF_ENDPOINT="http://127.0.0.1:9")
    assert status == 0, err
    assert (tmp_path / "off.png").read_bytes() == (tmp_path / "here.png").read_bytes()
    status, out, err = kdexport("inspect", "me/micro", "--json")
    assert status == 0, err
    assert json.loads(out)["source"]["random_weights"]


def test_a_changed_card_sends_no_weights(kdexport, hub, stand_in_hub, copy):
    pushed = ("push", copy, "me/card", *ANYTHING, "--token", stand_in_hub.WRITER)
    assert kdexport(*pushed)[0] == 0
    before = list(hub.sent())
    (copy / "README.md").write_text("# Mine\n\nkdexport run path/to/bundle\n")
    status, out, err = kdexport(*pushed)
    assert status == 0, err
    assert f"are at {hub.url}/me/card" in out
    assert "kdexport run me/card" in out
    assert hub.sent() == before
    assert hub.files("me/card")["README.md"] == b"# Mine\n\nkdexport run me/card\n"


def test_a_branch_of_a_private_repository(kdexport, hub, stand_in_hub, micro_bundle, tmp_path):
    options = ("--private", "--revision", "v1", "--token", stand_in_hub.WRITER)
    status, out, err = kdexport("push", micro_bundle, "me/secret", *ANYTHING, *options)
    assert status == 0, err
    assert f"{hub.url}/me/secret/tree/v1" in out
    assert 'kdexport run me/secret "a prompt" --revision v1\n' in out
    assert "Upload" in err  # the library's bars
    assert hub.repositories["me/secret"].private
    assert set(hub.files("me/secret")) == {".gitattributes"}
    assert "unet/model.onnx" in hub.files("me/secret", "v1")
    drawing = ("run", "me/secret", "a cat", "--steps", 1, "--size", 16, 16)
    for more, message in (
        ((), "There is no 'me/secret' on the Hub, or it is private"),
        (("--token", stand_in_hub.READER), "has no manifest.json; where it is a model, export it"),
        (
            ("--token", stand_in_hub.READER, "--revision", "v9"),
            "'me/secret' has no revision 'v9'",
        ),
    ):
        status, _, err = kdexport(*drawing, *more)
        assert status == 1
        assert message in " ".join(err.split())
    read = ("--token", stand_in_hub.READER, "--revision", "v1")
    status, _, err = kdexport(*drawing, *read)
    assert status == 0, err


def test_a_public_repository_stays_public(kdexport, hub, stand_in_hub, micro_bundle):
    hub.repositories["me/public"] = stand_in_hub.Repository(
        False, {"main": "0" * 40}, {"0" * 40: {}}
    )
    options = ("--private", "--token", stand_in_hub.WRITER)
    status, _, err = kdexport("push", micro_bundle, "me/public", *ANYTHING, *options)
    assert status == 1
    assert "is there already and is public, so nothing was sent" in err
    assert hub.files("me/public") == {}


def test_a_model_is_no_bundle(kdexport, hub, stand_in_hub):
    content = {"model_index.json": b"{}", "unet/model.onnx.data": b"weights"}
    hub.repositories["me/model"] = stand_in_hub.Repository(
        False, {"main": "1" * 40}, {"1" * 40: content}
    )
    status, _, err = kdexport("run", "me/model", "a cat")
    assert status == 1
    assert "export it first: kdexport onnx me/model -o DIR" in " ".join(err.split())
    asked = [path for _, path in hub.requests if path.startswith("/me/model/resolve")]
    assert asked
    assert all(path.endswith("/manifest.json") for path in asked)


@pytest.mark.parametrize(
    ("repository", "token", "endpoint", "message"),
    [
        ("me/x", None, None, "log in with `hf auth login`, or pass --token"),
        ("me/x", "hf_unknown", None, "log in with"),
        ("me/x", "READER", None, "You may not write to 'me/x'"),
        ("you/x", "WRITER", None, "You may not write to 'you/x'"),
        ("me/x", "WRITER", "http://127.0.0.1:9", "The Hub cannot be reached"),
    ],
)
def test_refusals(kdexport, hub, stand_in_hub, micro_bundle, repository, token, endpoint, message):
    given = {} if token is None else {"HF_TOKEN": getattr(stand_in_hub, token, token)}
    given |= {} if endpoint is None else {"HF_ENDPOINT": endpoint}
    status, out, err = kdexport("push", micro_bundle, repository, *ANYTHING, **given)
    assert status == 1
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert not out
    assert repository not in hub.repositories


def test_a_dry_run_needs_nobody(call, micro_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    given = ("push", micro_bundle, "me/micro", *ANYTHING, "--dry-run")
    status, out, _ = call(*given)
    assert status == 0
    assert "unet/model.onnx.data" in out
    told = json.loads(call(*given, "--json")[1])
    assert told["commit"] is None
    assert told["files"] == {
        path: len(content) for path, content in expected(micro_bundle, "me/micro").items()
    }
    assert next(iter(told["files"])) == "unet/model.onnx.data"
    status, _, err = call(*given[:-1])
    assert status == 1
    assert "need the package 'huggingface_hub'" in err


def with_parity(bundle, **change):
    """Says in a manifest what a verification found, without one."""
    path = bundle / "manifest.json"
    data = json.loads(path.read_text())
    data["source"]["random_weights"] = False
    path.write_text(json.dumps(data | change))


def test_what_is_not_published(copy):
    options = PushOptions("me/x")
    with pytest.raises(BundleError, match=r"weights of .* are random.*--random-weights"):
        prepare_push(copy, options)
    with_parity(copy)
    with pytest.raises(BundleError, match=r"was never compared with diffusers.*--unverified"):
        prepare_push(copy, options)
    assert prepare_push(copy, PushOptions("me/x", unverified=True)).files
    path = copy / "unet" / "config.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(BundleError, match="was changed or damaged"):
        prepare_push(copy, PushOptions("me/x", unverified=True))
    with pytest.raises(BundleError, match="is no kdexport bundle"):
        prepare_push(copy / "unet", options)


@pytest.mark.parametrize("passed", [True, False])
def test_a_verdict(copy, passed):
    verdict = {"passed": passed, "reference": {}, "runtime": {}, "components": [], "runs": []}
    with_parity(copy, parity=verdict | {"seconds": {}})
    if passed:
        assert prepare_push(copy, PushOptions("me/x")).message.startswith("Upload pipeline as")
        return
    with pytest.raises(BundleError, match="does not draw what its reference draws"):
        prepare_push(copy, PushOptions("me/x"))


def test_what_runtimes_keep_stays_here(copy):
    (copy / ".rtx_cache").mkdir()
    (copy / ".rtx_cache" / "x").write_text("x")
    (copy / "notes.txt").write_text("mine")
    push = prepare_push(copy, PushOptions("me/x", unverified=True, random_weights=True))
    assert not {"notes.txt", ".rtx_cache/x"} & set(push.files)
    assert {"manifest.json", "README.md"} <= set(push.files)


def test_only_the_placeholder_of_a_card_is_replaced(copy):
    # Lines that end as on Windows, and a word in Latin-1.
    (copy / "README.md").write_bytes(b"caf\xe9\r\nkdexport run path/to/bundle\r\n")
    push = prepare_push(copy, PushOptions("me/x", unverified=True, random_weights=True))
    sent = publish._source(copy, "README.md", "me/x")
    assert sent == b"caf\xe9\r\nkdexport run me/x\r\n"
    assert push.files["README.md"] == len(sent)


def test_a_bundle_without_a_card(call, copy):
    (copy / "README.md").unlink()
    status, out, err = call("push", copy, "me/x", *ANYTHING, "--dry-run", "--json")
    assert status == 0
    assert "README.md" not in json.loads(out)["files"]
    assert "has no model card" in err


@pytest.mark.parametrize(
    "name",
    [
        "x",
        "me/",
        "a/b/c",
        "me/a--b",
        "me/a..b",
        "me/a.",
        "me/a-",
        "-me/a",
        "me/a b",
        "me/" + 95 * "a",
    ],
)
def test_names(name):
    with pytest.raises(OptionError, match="is no name of a repository; give owner/name"):
        PushOptions(name)


def test_an_empty_branch():
    with pytest.raises(OptionError, match="The revision is empty"):
        PushOptions("me/x", revision=" ")


def test_without_the_library(micro_bundle, monkeypatch):
    push = prepare_push(micro_bundle, PushOptions("me/x", unverified=True, random_weights=True))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyError):
        push_bundle(push)


def test_links_are_followed(copy, tmp_path):
    # As in the Hub's cache.
    file = copy / "unet" / "model.onnx.data"
    file.rename(tmp_path / "blob")
    file.symlink_to(tmp_path / "blob")
    push = prepare_push(copy, PushOptions("me/x", unverified=True, random_weights=True))
    assert push.files["unet/model.onnx.data"] == (tmp_path / "blob").stat().st_size
