"""Bars in a terminal, lines elsewhere, nothing beside JSON."""

import os
import pty
import re
import subprocess
import sys

import pytest
from kdexport.cli import progress as module
from kdexport.cli.progress import progress

REPORTS = """
from kdexport.cli.progress import progress
with progress(quiet={quiet}) as report:
    report("reading [all]", 0.0)
    report("reading [all]", 0.5)
    report("writing", 0.25)
print("{{}}")
"""


def in_terminal(program):
    """What a program writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=theirs, env=environment
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        said += part
    os.close(ours)
    return done.stdout.decode(), said.decode()


@pytest.mark.parametrize("quiet", [False, True])
def test_in_a_terminal(quiet):
    # JSON goes to standard output, so bars on standard error are in nobody's way.
    out, said = in_terminal(REPORTS.format(quiet=quiet))
    assert out == "{}\n"
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)
    assert "writing" in text
    assert "100%" in text
    assert "left" in text
    assert max(len(line) for line in re.split(r"[\r\n]+", text)) <= 80


@pytest.mark.parametrize(
    ("quiet", "expected"), [(False, r"reading \[all\]: 0\.\d s\nwriting: 0\.\d s\n"), (True, "")]
)
def test_in_a_pipe(quiet, expected):
    program = REPORTS.format(quiet=quiet)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "{}\n"
    assert re.fullmatch(expected, done.stderr), done.stderr


def test_long_stages_say_how_far_they_are(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress(quiet=False) as report:
        for second in range(100):
            now[0] = float(second)
            report("unet", second / 100)
        report("decoder", 0.0)
    assert capsys.readouterr().err.splitlines() == [
        "unet: 30% after 30 s",
        "unet: 60% after 60 s",
        "unet: 90% after 90 s",
        "unet: 99.0 s",
        "decoder: 0.0 s",
    ]


def broken_off():
    with progress(quiet=False) as report:
        report("unet", 0.5)
        raise ValueError("no")


def test_what_fails_is_not_called_done(capsys):
    with pytest.raises(ValueError, match="no"):
        broken_off()
    assert capsys.readouterr().err == ""
