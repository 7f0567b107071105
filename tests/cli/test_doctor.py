"""`kdexport doctor` and `kdexport completion`."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from kdexport.cli.main import COMMANDS
from kdexport.core import installation
from kdexport.core.installation import EXTRAS, Finding
from kdexport.export.zoo import zoo


@pytest.fixture
def found(monkeypatch):
    """Makes all extras work but `gpu`, which is missing, and `coreml`, which is broken."""

    def find(name):
        states = {"gpu": ("missing", "no onnxruntime-gpu"), "coreml": ("broken", "Error: so")}
        state, detail = states.get(name, ("works", "fine"))
        return Finding(
            name,
            EXTRAS[name].enables,
            state,
            detail,
            {f"lib-{name}": "1.2"},
            f"pip install 'kdexport[{name}]'",
        )

    monkeypatch.setattr("kdexport.cli.doctor.find_extra", find)
    return find


def test_table(call, found):
    status, out, err = call("doctor")
    assert status == 0, err
    for name in EXTRAS:
        assert name in out
    assert "pip install 'kdexport[gpu]'" in out
    assert "pip install 'kdexport[cpu]'" not in out
    assert "lib-tensorrt-native 1.2" in out


def test_json(call, found):
    status, out, _ = call("doctor", "--json")
    data = json.loads(out)
    assert status == 0
    assert data["extras"]["gpu"]["state"] == "missing"
    assert data["extras"]["cpu"] == {
        "extra": "cpu",
        "enables": EXTRAS["cpu"].enables,
        "state": "works",
        "detail": "fine",
        "versions": {"lib-cpu": "1.2"},
        "install": "pip install 'kdexport[cpu]'",
    }


def test_required(call, found):
    assert call("doctor", "--require", "cpu", "--require", "export")[0] == 0
    status, out, err = call("doctor", "--require", "cpu", "--require", "gpu")
    assert status == 1
    assert "Error: gpu does not work here: no onnxruntime-gpu, run pip install" in err
    assert "what it enables" in out
    status, _, err = call("doctor", "--require", "gpu", "--require", "coreml")
    assert (status, "gpu and coreml do not work here" in err) == (1, True)
    status, _, err = call("doctor", "--require", "rocm")
    assert (status, "There is no extra 'rocm'; choose export, cpu" in err) == (1, True)


def test_the_real_one(call):
    status, out, err = call("doctor", "--require", "export", "--require", "cpu", "--json")
    assert status == 0, err
    assert json.loads(out)["extras"]["export"]["versions"]["torch"]
    assert installation.PACKAGE == "kdexport"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(call, shell, tmp_path):
    status, out, _ = call("completion", shell)
    assert status == 0
    assert "_KDEXPORT_COMPLETE" in out
    program = shutil.which(shell)
    if program:
        script = tmp_path / "script"
        script.write_text(out)
        done = subprocess.run([program, "-n", str(script)], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_shell(call):
    status, _, err = call("completion", "tcsh")
    assert (status, "'tcsh' is not one of" in err) == (2, True)


def offered(words, index=None, shell="bash"):
    """What a shell is told; the words are as it breaks them, the last or `index` is completed."""
    index = len(words) - 1 if index is None else index
    environment = {
        **os.environ,
        "_KDEXPORT_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(index),
    }
    command = [sys.executable, "-m", "kdexport"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    return {line.split(",", 1)[1] for line in done.stdout.splitlines()}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["kdexport", ""], {*COMMANDS}),
        (["kdexport", "be"], {"bench"}),
        # bash breaks at colons, and replaces what follows them.
        (["kdexport", "onnx", "zoo", ":", "bk-sdm-t"], {"bk-sdm-tiny", "bk-sdm-tiny-vpred"}),
        (["kdexport", "onnx", "zoo", ":"], {*zoo()}),
        (["kdexport", "onnx", "zoo", ":", "bk-sdm-tiny", "--preci"], {"--precision"}),
        # Where it is told not to.
        (["kdexport", "onnx", "zoo:bk-sdm-t"], {"zoo:bk-sdm-tiny", "zoo:bk-sdm-tiny-vpred"}),
        (
            ["kdexport", "inspect", "nota-ai/bk-sdm-sm"],
            {"nota-ai/bk-sdm-small", "nota-ai/bk-sdm-small-2m"},
        ),
        (["kdexport", "coreml", "demo", "--preci"], {"--precision"}),
        (["kdexport", "coreml", "some/file"], {"some/file"}),
    ],
)
def test_what_a_shell_is_told(words, expected):
    assert offered(words) == expected


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_itself(call, tmp_path):
    """As bash does it: the script is read, its function is called, the replies are looked at."""
    script = tmp_path / "script"
    script.write_text(call("completion", "bash")[1])
    program = tmp_path / "kdexport"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kdexport "$@"\n')
    program.chmod(0o755)
    asked = """
source "$1"
COMP_WORDS=(kdexport onnx zoo : bk-sdm-t) COMP_CWORD=4
_kdexport_completion "$2"
printf '%s\n' "${COMPREPLY[@]}"
"""
    done = subprocess.run(
        ["bash", "-c", asked, "bash", script, program], capture_output=True, text=True
    )
    assert done.stdout.split() == ["bk-sdm-tiny", "bk-sdm-tiny-vpred"], done.stderr
