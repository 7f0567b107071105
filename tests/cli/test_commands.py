"""The command line on a pipeline that exports in seconds: results, exit status, what is left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from kdexport.cli.main import COMMANDS, main
from kdexport.core import compare
from PIL import Image


def call(capsys, *arguments):
    """Runs a command in this process: (status, standard output, standard error)."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.fixture(scope="module")
def bundle(micro_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "bundle"
    with pytest.raises(SystemExit) as stop:
        main(["onnx", str(micro_pipeline), "-o", str(folder), "--verify-steps", "2"])
    assert stop.value.code == 0
    return folder


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "copy")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_command(capsys, command):
    status, out, _ = call(capsys, command, "--help")
    assert status == 0
    assert len(out.splitlines()) > 4


def test_the_list_of_commands_fits_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = call(capsys, "--help")
    assert status == 0
    assert "..." not in out.partition("Commands:")[2]
    assert max(map(len, out.splitlines())) <= 80


def test_wrong_usage_is_2(capsys):
    assert call(capsys, "run")[0] == 2
    assert call(capsys, "nonsense")[0] == 2
    assert call(capsys, "onnx", "x")[0] == 2


def test_run(capsys, bundle, tmp_path):
    arguments = ("run", bundle, "a cat", "--steps", 2, "--seed", 3, "--size", 16, 24)
    status, out, _ = call(capsys, *arguments, "-o", tmp_path / "a.png", "--json")
    assert status == 0
    data = json.loads(out)
    assert data["seed"] == 3
    image = Image.open(tmp_path / "a.png")
    assert image.size == (24, 16)
    assert image.info["prompt"] == "a cat"
    # The same initial noise by hand gives the same picture.
    from kdexport.runtimes.noise import TorchNoise

    np.save(tmp_path / "noise.npy", TorchNoise(3).normal((1, 4, 4, 6)))
    again = (*arguments, "--latents", tmp_path / "noise.npy", "-o", tmp_path / "b.png")
    assert call(capsys, *again)[0] == 0
    assert np.array_equal(np.asarray(image), np.asarray(Image.open(tmp_path / "b.png")))


def test_run_several(capsys, bundle, tmp_path):
    status, out, err = call(
        capsys, "run", bundle, "a cat", "--steps", 1, "--batch", 2, "-o", tmp_path / "a.png"
    )
    assert status == 0
    assert (tmp_path / "a-0.png").is_file()
    assert (tmp_path / "a-1.png").is_file()
    assert "seed" in out
    assert "random" in err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--provider", "gpu"], "no provider 'gpu'; choose cpu"),
        (["--runtime", "tflite"], "no runtime 'tflite'; choose onnxruntime"),
        (["--scheduler", "nope"], "no scheduler 'nope', only default, ddim"),
        (["--steps", "51"], "no 51-step table"),
        (["--steps", "0"], "at least 1"),
        (["--size", "10", "16"], "multiple of 8 pixels, not 10; choose 8 or 16"),
        (["--latents", "{here}/missing.npy"], "is no .npy file"),
        (["-o", "{here}/missing/a.png"], "cannot be written"),
        (["--init", "{here}/missing.png"], "is no image that can be read"),
        (["--strength", "0.5"], "A strength needs a picture to start from"),
    ],
)
def test_run_with_bad_input(capsys, bundle, tmp_path, extra, message):
    extra = [each.replace("{here}", str(tmp_path)) for each in extra]
    output = () if "-o" in extra else ("-o", tmp_path / "a.png")
    status, _, err = call(capsys, "run", bundle, "a cat", "--steps", "1", *output, *extra)
    assert status == 1
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_long_prompt_says_what_was_cut(capsys, bundle, tmp_path):
    prompt = " ".join(["vase"] * 300 + ["with", "no", "flowers"])
    arguments = ("run", bundle, prompt, "--steps", 1, "--size", 16, 16, "-o", tmp_path / "a.png")
    status, _, err = call(capsys, *arguments)
    assert status == 0
    assert "part of the prompt was cut off: [" in err
    assert "with no flowers']" in err


def test_run_from_a_picture_needs_an_encoder(capsys, bundle, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "in.png")
    arguments = ("run", bundle, "a cat", "--init", tmp_path / "in.png", "-o", tmp_path / "a.png")
    status, _, err = call(capsys, *arguments)
    assert status == 1
    assert "The bundle has no VAE encoder" in err
    assert not (tmp_path / "a.png").exists()


def test_a_damaged_bundle(capsys, copy, tmp_path):
    path = copy / "unet" / "model.onnx.data"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    status, _, err = call(capsys, "run", copy, "a cat", "-o", tmp_path / "a.png")
    assert (status, "'unet/model.onnx.data'" in err) == (1, True)
    for command in ("verify", "inspect"):
        assert call(capsys, command, copy)[0] == 1
    path.unlink()
    assert "lacks 'unet/model.onnx.data'" in call(capsys, "run", copy, "a cat")[2]


def test_verify(capsys, copy):
    (copy / "parity.json").unlink()
    status, out, _ = call(capsys, "verify", copy, "--steps", 1, "--prompt", "a dog", "--json")
    assert status == 0
    record = json.loads((copy / "parity.json").read_text())
    assert json.loads(out) == record
    assert record["passed"]
    assert record["runs"][0]["prompt"] == "a dog"
    assert call(capsys, "inspect", copy)[0] == 0


def test_verify_against_another_model_is_3(capsys, copy, micro, narrow, tmp_path):
    micro.save_pipeline(tmp_path / "other", narrow("bk-sdm-small"))
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "other" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["conv_out.weight"] *= 1.001
    save_file(tensors, path)
    status, _, err = call(capsys, "verify", copy, "--against", tmp_path / "other", "--steps", 1)
    assert status == 3
    assert "parity gates failed" in err
    assert "unet out_sample" in err
    assert not json.loads((copy / "parity.json").read_text())["passed"]
    assert "FAILED" in call(capsys, "inspect", copy)[1]


def test_verify_against_another_scheduler(capsys, copy, micro, narrow, tmp_path):
    other = tmp_path / "other"
    micro.save_pipeline(other, narrow("bk-sdm-small"))
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        text = (other / name).read_text(encoding="utf-8")
        assert "PNDMScheduler" in text
        text = text.replace("PNDMScheduler", "DDIMScheduler")
        (other / name).write_text(text, encoding="utf-8")
    before = (copy / "parity.json").read_text()
    status, _, err = call(capsys, "verify", copy, "--against", other, "--steps", 2)
    assert status == 1
    assert "calls its U-Net 2 times in this run, the bundle 3 times; name a reference" in err
    assert (copy / "parity.json").read_text() == before


def test_verify_against_another_family(capsys, copy, narrow):
    status, _, err = call(capsys, "verify", copy, "--against", narrow("koala-700m"))
    assert status == 1
    assert "is of the family sdxl, the bundle of sd; name a reference" in err


def test_verify_notices_that_the_source_changed(capsys, copy, micro_pipeline, tmp_path):
    moved = shutil.copytree(micro_pipeline, tmp_path / "moved")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["source"]["model"] = str(moved)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with (moved / "vae" / "diffusion_pytorch_model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\0")
    status, _, err = call(capsys, "verify", copy)
    assert status == 1
    assert "has other weights than the bundle was made of" in err


def test_inspect_a_bundle(capsys, bundle):
    status, out, _ = call(capsys, "inspect", bundle, "--json")
    assert status == 0
    assert json.loads(out)["family"] == "sd"
    assert "passed" in call(capsys, "inspect", bundle)[1]


def test_inspect_a_model(capsys, narrow):
    status, out, _ = call(capsys, "inspect", narrow("bk-sdm-small"), "--plan")
    assert status == 0
    assert "unet/model.onnx" in out
    status, out, _ = call(capsys, "inspect", narrow("bk-sdm-small"), "--json")
    data = json.loads(out)
    assert data["calls"] == 51
    assert {part["role"] for part in data["parts"]} >= {"unet", "vae_decoder", "text_encoder"}
    assert call(capsys, "inspect", narrow("bk-sdm-small"), "--size", 10, 10)[0] == 1


def test_models(capsys, tmp_path):
    status, out, _ = call(capsys, "models")
    assert status == 0
    assert "koala-700m" in out
    names = {row["name"] for row in json.loads(call(capsys, "models", "--json")[1])}
    assert names >= {"bk-sdm-base", "bk-sdm-v2-tiny", "sdxs-512-dreamshaper"}
    status, _, _ = call(capsys, "models", "make", "bk-sdm-tiny", tmp_path / "m", "--narrow")
    assert status == 0
    assert (tmp_path / "m" / "model_index.json").is_file()
    assert call(capsys, "models", "make", "bk-sdm-tiny", tmp_path / "m", "--narrow")[0] == 1
    status, _, err = call(capsys, "models", "make", "nope", tmp_path / "n")
    assert (status, "choose bk-sdm-base" in err) == (1, True)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--precision", "int4"], "no precision 'int4'; choose fp32"),
        (["--attention", "flash"], "no attention 'flash'; choose fused"),
        (["--schedulers", "nope"], "no scheduler 'nope'; choose ddim"),
        (["--static", "10", "16"], "height 10 does not fit"),
        (["--opset", "9"], "Opset 9 is not supported"),
        (["--verify-size", "10", "16"], "height must be a multiple of 8 pixels, not 10"),
        (["--decoder", "nothing"], "neither a folder nor a Hub id"),
        (["--clip-skip", "0"], "clip-skip must be at least 1, not 0"),
        (["--clip-skip", "99"], "clip-skip must be at most"),
    ],
)
def test_export_with_bad_options(capsys, micro_pipeline, tmp_path, extra, message):
    status, _, err = call(capsys, "onnx", micro_pipeline, "-o", tmp_path / "out", *extra)
    assert status == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_that_is_not_linear(capsys, micro_pipeline, tmp_path):
    model = shutil.copytree(micro_pipeline, tmp_path / "model")
    for name, changes in (
        ("model_index.json", {"scheduler": ["diffusers", "DDIMScheduler"]}),
        ("scheduler/scheduler_config.json", {"clip_sample": True}),
    ):
        data = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(data | changes))
    status, _, err = call(capsys, "onnx", model, "-o", tmp_path / "out")
    assert status == 1
    assert "clip_sample=True" in err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_and_an_existing_folder(capsys, micro_pipeline, tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("kdexport.core.folder.shutil.disk_usage", lambda _: free)
    status, _, err = call(capsys, "onnx", micro_pipeline, "-o", tmp_path / "out")
    assert (status, "GB are free; free some space" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    status, _, err = call(capsys, "onnx", micro_pipeline, "-o", tmp_path / "out")
    assert (status, "already exists" in err) == (1, True)
    assert (tmp_path / "out" / "mine").read_text() == "keep"


def test_a_failed_gate_leaves_no_bundle(capsys, micro_pipeline, tmp_path, monkeypatch):
    strict = compare.Gates(component_l2=1e-12, component_psnr_db=None, image_psnr_db=45.0)
    monkeypatch.setitem(compare.GATES, "fp32", strict)
    arguments = ("onnx", micro_pipeline, "-o", tmp_path / "out", "--verify-steps", 1)
    status, _, err = call(capsys, *arguments, "--schedulers", "", "--max-steps", 1)
    assert status == 3
    assert "parity gates failed, no bundle was written: " in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_export_leaves_nothing(micro_pipeline, tmp_path, number):
    command = [sys.executable, "-m", "kdexport", "onnx", micro_pipeline, "-o", tmp_path / "out"]
    process = subprocess.Popen(
        [str(each) for each in command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not any(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Cancelled; nothing was written." in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path):
    from kdexport.core.errors import BundleError

    with pytest.raises(BundleError):
        main(["--debug", "run", str(tmp_path), "a cat"])


def test_a_card_says_what_is_known(capsys, bundle, micro_bundle, copy):
    card = (bundle / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: kdexport\n")
    assert "**Passed**" in card
    assert "The weights are random" in card
    assert "Not verified" in (micro_bundle / "README.md").read_text()
    # The report has the bundle's name, not that of the folder that it was made in.
    assert "kdexport verify bundle --steps" in (bundle / "report.html").read_text()
    recorded = json.loads((bundle / "manifest.json").read_text())["files"]
    assert "README.md" not in {each["path"] for each in recorded}
    # Nobody's edits make a bundle a damaged one, and verify writes the card anew.
    (copy / "README.md").write_text("mine")
    assert call(capsys, "verify", copy, "--steps", 1)[0] == 0
    assert "**Passed**" in (copy / "README.md").read_text()
