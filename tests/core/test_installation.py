"""Which extras work."""

import re
import sys
from dataclasses import replace
from importlib import metadata

import pytest
from kdexport.core import installation
from kdexport.core.errors import DependencyError
from kdexport.core.installation import EXTRAS, Extra, find_extra

KNOWN = [
    "onnxruntime>=1.23; extra == 'cpu'",
    'torch>=2.11; extra == "export"',
    "numpy>=1.26",
]


@pytest.fixture
def packages(monkeypatch):
    """`packages(requires, versions)`: what the metadata of the packages say."""

    def install(requires, **versions):
        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(metadata, "requires", lambda name: requires)
        monkeypatch.setattr(metadata, "version", version)

    return install


@pytest.fixture
def probe(monkeypatch):
    """`probe(program)` makes that what is tried of the extra `cpu`."""

    def use(program):
        extra = replace(EXTRAS["cpu"], probe=program)
        monkeypatch.setattr(installation, "EXTRAS", {**EXTRAS, "cpu": extra})

    return use


def test_the_extras_are_those_of_the_package():
    named = metadata.metadata("kdexport").get_all("Provides-Extra")
    assert {*EXTRAS} == {*named} - {"dev"}


def test_this_installation():
    # The tests run where these are installed.
    for name in ("export", "cpu"):
        found = find_extra(name)
        assert (found.state, found.works) == ("works", True), found
        assert found.versions[{"export": "torch", "cpu": "onnxruntime"}[name]]
    assert "CPU" in find_extra("cpu").detail.split()


def test_missing_and_incomplete(packages):
    packages([*KNOWN, "peft>=0.17; extra == 'export'"], peft="0.19")
    found = find_extra("cpu")
    assert (found.state, found.detail, found.versions) == ("missing", "no onnxruntime", {})
    assert found.install == "pip install 'kdexport[cpu]'"
    found = find_extra("export")
    assert (found.state, found.detail) == ("incomplete", "no torch")


@pytest.mark.parametrize(
    ("version", "state"),
    [("1.22.9", "outdated"), ("1.23", "works"), ("1.23.0+cpu", "works"), ("1.101.0", "works")],
)
def test_versions(packages, probe, version, state):
    packages(KNOWN, onnxruntime=version)
    probe("print('fine')")
    found = find_extra("cpu")
    assert found.state == state
    assert found.detail == ("fine" if state == "works" else f"onnxruntime {version} (needs 1.23)")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("print('')", "offers nothing here"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import os; os._exit(7)", "ended with status 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended with status -11"),
    ],
)
def test_broken(packages, probe, program, said):
    packages(KNOWN, onnxruntime="1.30")
    probe(program)
    found = find_extra("cpu")
    assert (found.state, found.detail, found.works) == ("broken", said, False)


def test_onnxruntime_for_gpus_runs_on_the_cpu(packages, probe):
    packages([*KNOWN, "onnxruntime-gpu>=1.23; extra == 'gpu'"], **{"onnxruntime-gpu": "1.30"})
    probe("print('fine')")
    found = find_extra("cpu")
    assert (found.state, found.versions) == ("works", {"onnxruntime-gpu": "1.30"})


def test_the_two_onnxruntimes_are_in_each_others_way(packages):
    packages([*KNOWN, "onnxruntime-gpu>=1.23; extra == 'gpu'"], onnxruntime="1.30")
    found = find_extra("gpu")
    assert found.state == "missing"
    assert found.install == "pip uninstall onnxruntime && pip install 'kdexport[gpu]'"


def test_modules_of_the_working_folder_are_not_meant(packages, probe, tmp_path, monkeypatch):
    packages(KNOWN, onnxruntime="1.30")
    (tmp_path / "wave.py").write_text("raise ValueError")
    monkeypatch.chdir(tmp_path)
    probe("import wave; print('fine')")
    assert find_extra("cpu").state == "works"


def test_one_that_hangs(packages, probe, monkeypatch):
    packages(KNOWN, onnxruntime="1.30")
    probe("import time; time.sleep(60)")
    monkeypatch.setattr(installation, "_LIMIT_S", 0.2)
    assert find_extra("cpu").detail == "did not import within 0.2 s"


@pytest.mark.parametrize("requires", [None, []])
def test_a_folder_that_is_not_installed(packages, requires):
    packages(requires)
    with pytest.raises(DependencyError, match=r"run `pip install \.` there"):
        find_extra("cpu")


def test_probes_are_programs():
    for name, extra in EXTRAS.items():
        assert isinstance(extra, Extra)
        compile(extra.probe, name, "exec")
        # The last line that they print is what the table shows.
        assert re.search(r"print\(.+\)$", extra.probe), name
    assert sys.executable
