"""The trained model in the box: what is shipped, and that every form of it draws its captions."""

import json
from pathlib import Path

import numpy as np
import pytest
from kdexport.cli.main import main
from kdexport.core.errors import CheckpointError
from kdexport.core.manifest import load_manifest
from kdexport.export.demo import DEMO_ADAPTERS, DEMO_DECODERS, DEMO_MODELS
from kdexport.export.load import load_checkpoint
from PIL import Image
from safetensors import safe_open

FOLDER = DEMO_MODELS["demo"].parent
RECORDED = json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))
CAPTIONS = 16
# Of an overall score of 16 captions around that of the many recorded ones: two standard errors.
SLACK = 0.14


def call(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def parameters(folder):
    total = 0
    for path in Path(folder).glob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                total += int(np.prod(file.get_slice(name).get_shape()))
    return total


def test_fits_the_package():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6
    assert {path.suffix for path in files} <= {".json", ".md", ".txt", ".safetensors"}


@pytest.mark.parametrize("name", DEMO_MODELS)
def test_is_a_trained_pipeline_of_half_precision(name):
    checkpoint = load_checkpoint(name)
    assert not checkpoint.random_weights
    for component in checkpoint.components.values():
        (path,) = component.folder.glob("*.safetensors")
        with safe_open(path, "pt") as file:
            dtypes = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
        assert dtypes <= {"F16", "I64"}, component.name


def test_the_fast_adapter_needs_four_steps_and_no_guidance():
    checkpoint = load_checkpoint("demo-fast")
    assert checkpoint.components == load_checkpoint("demo").components
    assert [each.adapter.model for each in checkpoint.adapters] == ["demo-fast"]
    assert checkpoint.scheduler["_class_name"] == "DPMSolverMultistepScheduler"
    assert (checkpoint.defaults["steps"], checkpoint.defaults["guidance"]) == (4, 1.0)


def test_blocks_are_removed():
    unet = load_checkpoint("demo").component("unet").config
    assert (unet["mid_block_type"], unet["layers_per_block"]) == (None, 1)
    counts = RECORDED["parameters"]
    assert counts["student"] == parameters(DEMO_MODELS["demo"] / "unet")
    assert counts["student"] <= counts["teacher"] / 2


def test_the_student_is_near_its_teacher():
    scores = RECORDED["scores"]
    assert scores["student"]["overall"] >= scores["teacher"]["overall"] - 0.1


def test_an_unknown_name_is_no_demo():
    with pytest.raises(CheckpointError, match="neither a folder nor a Hub id"):
        load_checkpoint("demo-nothing")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What `kdexport demo` leaves."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdexport.cli.demo.SCORED", CAPTIONS)
        assert call("demo", "-o", folder) == 0
    return folder


def test_the_demo_ends_with_pictures_and_figures(shown):
    assert sorted(path.name for path in shown.iterdir()) == ["bundle", "image.png", "sheet.png"]
    assert Image.open(shown / "image.png").size == (384, 384)
    record = json.loads((shown / "bundle" / "parity.json").read_text(encoding="utf-8"))
    assert record["passed"]
    assert (record["quality"]["captions"], record["quality"]["unlike"]) == (CAPTIONS, 0)
    assert record["quality"]["bundle"]["overall"] > RECORDED["scores"]["student"]["overall"] - SLACK
    assert load_manifest(shown / "bundle").parity == record


# Every shipped piece in another precision: name, decoder, what it is scored like.
FORMS = [
    pytest.param(*("demo", "demo-tiny", "mixed", "student, tiny decoder"), marks=pytest.mark.slow),
    ("demo-fast", None, "fp32", "student, fast adapter"),
]


@pytest.mark.parametrize(("model", "decoder", "precision", "form"), FORMS)
def test_forms_draw_their_captions(tmp_path, model, decoder, precision, form):
    bundle = tmp_path / "bundle"
    extra = ["--decoder", decoder] if decoder else []
    options = ["--precision", precision, "--schedulers", "", "--no-verify"]
    assert call("onnx", model, "-o", bundle, *options, *extra) == 0
    assert call("verify", bundle, "--captions", CAPTIONS) == 0
    quality = json.loads((bundle / "parity.json").read_text(encoding="utf-8"))["quality"]
    assert quality["captions"] == CAPTIONS
    assert quality["bundle"]["overall"] > RECORDED["scores"][form]["overall"] - SLACK


def test_decoders_are_listed(capsys):
    assert call("models") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in (*DEMO_MODELS, *DEMO_ADAPTERS, *DEMO_DECODERS))
