"""`kdexport.testing` and `verify --junit`: parity as tests."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from kdexport.cli.main import main
from kdexport.core.errors import BundleError, CheckpointError, OptionError
from kdexport.core.parity import ParityRecord
from kdexport.testing import assert_parity

SMALL = {"steps": 1, "size": (16, 16)}


def state(folder):
    files = (each for each in folder.rglob("*") if each.is_file())
    return {each: each.read_bytes() for each in files}


@pytest.fixture(scope="module")
def other(micro, narrow, tmp_path_factory):
    """A model of the same architecture with other weights."""
    import safetensors.torch

    folder = tmp_path_factory.mktemp("other") / "model"
    micro.save_pipeline(folder, narrow("bk-sdm-small"))
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = safetensors.torch.load_file(file)
    safetensors.torch.save_file({name: 1.5 * each for name, each in weights.items()}, file)
    return folder


def test_it_draws_the_same(micro_bundle, tmp_path):
    before = state(micro_bundle)
    report = tmp_path / "found"
    record = assert_parity(micro_bundle, **SMALL, prompts="a dog", report=report)
    assert isinstance(record, ParityRecord)
    assert record.passed
    assert record.drawn["prompts"] == ["a dog"]
    assert record.runtime["engine"] == "onnxruntime"
    assert json.loads((report / "parity.json").read_text())["passed"]
    assert (report / "report.html").is_file()
    assert state(micro_bundle) == before


def test_it_draws_something_else(micro_bundle, other, tmp_path):
    with pytest.raises(AssertionError) as raised:
        assert_parity(str(micro_bundle), str(other), **SMALL, report=tmp_path)
    first, *failed = str(raised.value).splitlines()
    assert first.endswith(f"parity gates failed for '{micro_bundle}':")
    assert first.startswith(f"{len(failed)} of ")
    assert all("needed" in each for each in failed)
    assert any(each.strip().startswith("unet out_sample at") for each in failed)
    # What failed can be looked at.
    assert not json.loads((tmp_path / "parity.json").read_text())["passed"]


def test_what_cannot_be_run(micro_bundle, tmp_path):
    with pytest.raises(BundleError, match="is no kdexport bundle"):
        assert_parity(tmp_path)
    with pytest.raises(CheckpointError):
        assert_parity(micro_bundle, str(tmp_path))
    copy = shutil.copytree(micro_bundle, tmp_path / "copy")
    (copy / "unet" / "config.json").write_text("{}")
    with pytest.raises(BundleError, match="was changed or damaged"):
        assert_parity(copy)


def test_a_report_does_not_go_into_a_bundle(micro_bundle, tmp_path, capsys):
    before = state(micro_bundle)
    (tmp_path / "link").symlink_to(micro_bundle)
    for place in (micro_bundle, tmp_path / "link"):
        with pytest.raises(OptionError, match="is a bundle, whose manifest and card would not fit"):
            assert_parity(micro_bundle, **SMALL, report=place)
        with pytest.raises(SystemExit) as stop:
            main(["verify", str(micro_bundle), "-o", str(place)])
        assert stop.value.code == 1
        assert "is a bundle, whose manifest and card would not fit" in capsys.readouterr().err
    assert state(micro_bundle) == before


@pytest.mark.parametrize("broken", [["--steps", "0"], ["--against", "nowhere"]])
def test_an_earlier_verdict_is_gone(micro_bundle, tmp_path, broken):
    file = tmp_path / "junit.xml"
    file.write_text("<testsuites/>")
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(micro_bundle), "-o", str(tmp_path), "--junit", str(file), *broken])
    assert stop.value.code == 1
    assert not file.exists()


def test_in_pytest(micro_bundle, other, tmp_path):
    # As somebody uses it, in a project of theirs: one test passes, one fails and says why.
    (tmp_path / "test_export.py").write_text(
        "from kdexport.testing import assert_parity\n\n\n"
        f"def test_same():\n    assert_parity({str(micro_bundle)!r}, steps=1, size=(16, 16))\n\n\n"
        "def test_other():\n"
        f"    assert_parity({str(micro_bundle)!r}, {str(other)!r}, steps=1, size=(16, 16))\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_export.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert re.search(r"^E +unet out_sample at .*needed relative L2", done.stdout, re.MULTILINE)
    # The line of the test is shown, not the ones behind it.
    assert "__tracebackhide__" not in done.stdout


@pytest.mark.parametrize("against", ["itself", "other"])
def test_junit(micro_bundle, other, against, tmp_path):
    file = tmp_path / "new" / "junit.xml"
    options = ["--steps", "1", "--size", "16", "16", "-o", str(tmp_path), "--junit", str(file)]
    options += ["--against", str(other)] if against == "other" else []
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(micro_bundle), *options])
    failed = against == "other"
    assert stop.value.code == (3 if failed else 0)
    (suite,) = ElementTree.parse(file).getroot()
    record = json.loads((tmp_path / "parity.json").read_text())
    assert len(suite.findall("testcase")) == len(record["components"]) + len(record["runs"])
    assert bool(suite.findall("testcase/failure")) == failed
    facts = {each.get("name"): each.get("value") for each in suite.findall("properties/property")}
    assert facts["bundle"] == micro_bundle.name
    assert facts["runtime.provider"] == "cpu"
    assert set(facts) > {"kdexport", "python", "system", "machine", "reference.diffusers"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--junit", "{here}"], "is a folder; choose a file"),
        (["--junit", "{here}/file/junit.xml"], "cannot be replaced (Not a directory); choose"),
        (["-o", "{here}/file"], "is a file; choose a folder"),
    ],
)
def test_places_that_cannot_be(micro_bundle, tmp_path, capsys, options, message):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(micro_bundle), *(each.format(here=tmp_path) for each in options)])
    assert stop.value.code == 1
    assert message in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
