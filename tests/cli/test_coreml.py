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
        (["--palettize", 5], "Palettes have 8, 6 or 4 bits, not 5"),
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
    [("[8]", "recipe"), ('{"default": 3}', "bits, not 3"), ("{", "recipe")],
)
def test_recipes(refused, tmp_path, recipe, message):
    (tmp_path / "recipe.json").write_text(recipe)
    status, error = refused("--palettize", tmp_path / "recipe.json")
    assert (status, message in error) == (1, True), error


def test_a_recipe_for_other_layers(refused, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps({"no_such_layer": 8, "default": None}))
    status, error = refused("--palettize", tmp_path / "recipe.json", "--attention", "original")
    assert (status, "no_such_layer" in error) == (1, True), error


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
