"""`kdexport coreml` where it refuses: one sentence, and nothing left behind."""

import json
import sys

import pytest
from kdexport.cli.main import main


@pytest.fixture
def refused(capsys, tmp_path, micro_pipeline):
    """Runs the command, which must fail; gives status and message."""

    def run(*options, model=micro_pipeline):
        arguments = ["coreml", model, "-o", tmp_path / "out", *options, "--max-steps", 2]
        with pytest.raises(SystemExit) as ended:
            main([str(each) for each in (*arguments, "--schedulers", "")])
        assert not (tmp_path / "out").exists()
        return ended.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--attention", "sdpa"], "operation of iOS18, and the target is iOS17"),
        (["--target", "macOS13"], "no deployment target 'macOS13'; choose iOS16, iOS17 or iOS18"),
        (["--precision", "mixed"], "no Core ML precision 'mixed'; choose fp16 or fp32"),
        (["--size", 100, 100], "height 100 does not fit"),
        (["--palettize", 5], "Palettes have 8, 6, 4, 3, 2 or 1 bits, not 5"),
        (["--palettize", 3], "'palette3' came with iOS18, and the target is iOS17"),
        (["--quantize", "int4"], "'int4' came with iOS18, and the target is iOS17"),
        (["--quantize", "palette5"], "no weight format 'palette5'; choose float, palette8"),
        (["--quantize", "fp8", "--target", "iOS18"], "format fp8 needs to know the ranges"),
        (["--quantize", "int8-dynamic"], "Core ML lacks the format 'int8-dynamic'"),
        (["--quantize", "int8-static"], "name it with --calibration"),
        (["--quantize", "int8", "--precision", "fp32"], "choose the precision fp16"),
        (["--palettize", "missing.json"], "missing.json"),
        (["--guidance-batch", 4], "1 or 2 rows, not 4"),
        (["--epsilon"], "predicts noise already; leave out --epsilon"),
        (["--verify-size", 64, 64], "pixels only, not 64"),
    ],
)
def test_options(refused, options, message):
    status, error = refused(*options)
    assert status == 1
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("[8]", "recipe"),
        ('{"default": 5}', "bits, not 5"),
        ('{"default": 3}', "'palette3' came with iOS18"),
        ("{", "recipe"),
    ],
)
def test_recipes(refused, tmp_path, recipe, message):
    (tmp_path / "recipe.json").write_text(recipe)
    status, error = refused("--palettize", tmp_path / "recipe.json")
    assert (status, message in error) == (1, True), error


def test_a_recipe_for_other_layers(refused, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps({"no_such_layer": 8, "default": None}))
    status, error = refused("--palettize", tmp_path / "recipe.json", "--attention", "original")
    assert (status, "no_such_layer" in error) == (1, True), error


def test_a_recipe_for_other_components(refused, tmp_path):
    recipe = {"kdexport_recipe": 1, "components": {"text_encoder_2": {"default": "int8"}}}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    status, error = refused("--quantize", tmp_path / "recipe.json")
    assert status == 1
    assert "is about the text_encoder_2, which this export does not have" in error


def test_one_name_of_the_option(refused):
    status, error = refused("--quantize", "int8", "--palettize", 6)
    assert (status, "give one of them" in error) == (2, True), error


def test_without_coremltools(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    status, error = refused()
    assert status == 1
    assert "pip install kdexport[coreml]" in error


def test_zero_terminal_snr(refused, micro_pipeline, tmp_path):
    import shutil

    model = tmp_path / "model"
    shutil.copytree(micro_pipeline, model)
    file = model / "scheduler" / "scheduler_config.json"
    config = {
        **json.loads(file.read_text()),
        "_class_name": "DDIMScheduler",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }
    file.write_text(json.dumps(config))
    index = json.loads((model / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "DDIMScheduler"]
    (model / "model_index.json").write_text(json.dumps(index))
    status, error = refused("--epsilon", model=model)
    assert (status, "ends in pure noise" in error) == (1, True), error
