"""`kdexport calibrate` on tiny pipelines and on the demo model."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from kdexport.cli.main import main
from kdexport.core.calibration import Calibration


def call(capsys, *arguments):
    """Runs a command in this process: (status, standard output, standard error)."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def test_the_demo_model(capsys, tmp_path):
    path = tmp_path / "new" / "calib.npz"
    arguments = ("calibrate", "demo", "-o", path, "--steps", 2, "--samples", 3)
    status, out, err = call(capsys, *arguments)
    assert status == 0, err
    rows = {line.split("│")[1].strip(): line.split("│") for line in out.splitlines() if "│" in line}
    assert set(rows) == {"text_encoder", "unet", "vae_decoder"}
    assert [cell.strip() for cell in rows["unet"][2:4]] == ["3", "2 from 1 to 501"]
    assert f"Wrote {path}" in out
    assert "drawing" in err
    with Calibration.open(path) as data:
        assert data.record.model == "demo"
        assert data.record.steps == 2
        assert all(" on a" in prompt for prompt in data.record.prompts)
    first = path.read_bytes()
    status, _, err = call(capsys, *arguments)
    assert (status, "already exists; choose another file or pass --overwrite" in err) == (1, True)
    status, out, _ = call(capsys, *arguments, "--overwrite", "--json")
    assert status == 0
    assert path.read_bytes() == first
    printed = json.loads(out)
    assert printed["calibration"] == str(path)
    assert printed["components"]["unet"]["samples"] == 3
    assert [each.name for each in path.parent.iterdir()] == ["calib.npz"]


def test_the_options_reach_the_runs(capsys, micro_pipeline, tmp_path):
    texts, path = tmp_path / "prompts.txt", tmp_path / "calib.npz"
    texts.write_text("# mine\na cat\n\na dog\n")
    arguments = ("--prompts", texts, "--size", 16, 24, "--guidance", 3.5, "--seed", 7)
    more = ("--steps", 2, "--samples", 5, "--clip-skip", 1, "--json")
    status, out, err = call(capsys, "calibrate", micro_pipeline, "-o", path, *arguments, *more)
    assert status == 0, err
    assert err == ""
    found = json.loads(out)
    assert found["prompts"] == ["a cat", "a dog"]
    assert (found["height"], found["width"], found["guidance"]) == (16, 24, 3.5)
    assert (found["seed"], found["steps"]) == (7, 2)
    assert found["components"]["unet"]["samples"] == 5
    with Calibration.open(path) as data:
        assert {each["sample"].shape for each in data.samples("unet")} == {(2, 4, 4, 6)}


def test_the_models_own_settings(capsys, micro_pipeline, tmp_path):
    """Its steps, but not more than 25, its guidance and its size."""
    path = tmp_path / "calib.npz"
    status, out, err = call(
        capsys, "calibrate", micro_pipeline, "-o", path, "--samples", 1, "--json"
    )
    assert status == 0, err
    found = json.loads(out)
    assert (found["steps"], found["guidance"], found["height"]) == (25, 7.5, 32)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--samples", "0"], "number of samples must be at least 1, not 0"),
        (["--size", "10", "16"], "height 10 does not fit"),
        (["--size", "512", "512", "--limit-mb", "1"], "MB, more than the limit of 1 MB; pass"),
        (["--seed", "-1"], "seed must be at least 0, not -1"),
        (["--prompts", "{here}/empty"], "empty' has no prompts; write one a line"),
        (["--prompts", "{here}/missing"], "missing' cannot be read"),
        (["--control", "{here}/empty"], "is no image that can be read"),
        (["--control", "{here}/a.png"], "has no ControlNet, so it takes neither"),
        (["-o", "{here}"], "is a folder; choose a file"),
        (["-o", "{here}/empty"], "already exists; choose another file"),
        (["-o", "{here}/empty/a.npz"], "empty' is a file, so nothing can be written below it"),
    ],
)
def test_bad_options(capsys, micro_pipeline, tmp_path, extra, message):
    from PIL import Image

    (tmp_path / "empty").write_text("# nothing\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    extra = [each.replace("{here}", str(tmp_path)) for each in extra]
    output = () if "-o" in extra else ("-o", tmp_path / "calib.npz")
    arguments = ("calibrate", micro_pipeline, *output, "--steps", 1, *extra)
    status, _, err = call(capsys, *arguments)
    assert status == 1
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.png", "empty"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_command_leaves_nothing(micro_pipeline, tmp_path, number):
    command = [sys.executable, "-m", "kdexport", "calibrate", micro_pipeline]
    # Far more than is drawn until the signal comes.
    command += ["-o", tmp_path / "calib.npz", "--size", "64", "64"]
    process = subprocess.Popen(
        [str(each) for each in command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size > 50_000 for path in tmp_path.glob(".calib*/calib.npz")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Cancelled; nothing was written." in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
