"""The report in headless Chromium: what it says on the console, and what it looks like."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from kdexport.runtimes.report.page import write_report
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


def shoot(file, picture, width, height, dark=False):
    """Opens a file; returns what it said on the console, and its screenshot."""
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *("--disable-background-networking", "--no-first-run", "--enable-logging=stderr"),
        *(f"--user-data-dir={picture.parent / 'profile'}", f"--window-size={width},{height}"),
        *(f"--screenshot={picture}", *scheme),
        file.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return said, np.asarray(Image.open(picture).convert("RGB")).astype(int)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 500])
def test_is_shown_without_complaint(tmp_path, manifest, found, width, dark):
    file = write_report(tmp_path, "b", manifest, *found())
    said, shot = shoot(file, tmp_path / "shot.png", width, 1600, dark)
    assert said == []
    assert shot.shape == (1600, width, 3)
    # The verdict stands on green in either scheme, and the paper is light or dark.
    top = shot[14:120].reshape(-1, 3).mean(axis=0)
    assert top[1] > top[0]
    assert top[1] > top[2]
    assert (shot[2, 2].mean() < 60) == dark
    # Nothing is wider than the window: the margin at the right is paper all the way down.
    assert (shot[:, -3:] == shot[2, 2]).all()


def test_a_failing_case(tmp_path, manifest, found):
    record, pictures = found(errors=(0.0, 1e-2), levels=(60,), broken="NaN at call 3")
    file = write_report(tmp_path, "b", manifest, record, pictures)
    said, shot = shoot(file, tmp_path / "s.png", 900, 900)
    assert said == []
    top = shot[14:120].reshape(-1, 3).mean(axis=0)
    assert top[0] > top[1]


def test_the_console_is_heard(tmp_path):
    """So that the checks above can fail."""
    file = tmp_path / "page.html"
    file.write_text(
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
        "<img src='http://127.0.0.1:9/x.png'>",
        encoding="utf-8",
    )
    said, _ = shoot(file, tmp_path / "s.png", 500, 500)
    assert any("127.0.0.1" in line for line in said)
