"""`kdexport onnx --quantize`, end to end on a pipeline that exports in seconds."""

import json
from dataclasses import replace

import numpy as np
import pytest
from kdexport.calib.table import LayerSensitivity, SensitivityTable, read_table, save_table
from kdexport.cli.main import main
from kdexport.cli.quantization import QuantizeRequest, read_ranges
from kdexport.core.errors import CalibrationError, RecipeError
from kdexport.core.manifest import load_manifest
from kdexport.core.ranges import LayerRange, TensorRange
from kdexport.export.cost import layer_macs
from kdexport.export.description import describe_pipeline
from kdexport.export.hub import HubOptions
from kdexport.export.load import load_checkpoint

OPTIONS = ("--verify-steps", 1, "--verify-size", 16, 24, "--schedulers", "", "--max-steps", 2)


def call(capsys, *arguments):
    """Runs a command in this process: (status, standard output, standard error)."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.fixture(scope="module")
def checkpoint(micro_pipeline):
    return load_checkpoint(str(micro_pipeline), HubOptions(None, None, True))


@pytest.fixture(scope="module")
def ranges(checkpoint, tmp_path_factory):
    """A sensitivity table with wide ranges of every layer of the U-Net."""
    wide = TensorRange(-6.0, 6.0, 6.0, 6.0)
    names = layer_macs(checkpoint.component("unet"), 8, 8)["unet"]
    file = tmp_path_factory.mktemp("ranges") / "table.json"
    made = dict.fromkeys(("prompts", "steps", "guidance", "height", "width", "seed"), 1)
    table = SensitivityTable(
        model="micro",
        weights_sha256={},
        architecture=describe_pipeline(checkpoint, 1).architecture,
        made=made,
        layers=(LayerSensitivity("conv_in.weight", (8, 4, 3, 3), {"int8": 1.0}),),
        ranges=dict.fromkeys(names, LayerRange(wide, wide)),
    )
    save_table(table, file, overwrite=False)
    return file


@pytest.mark.parametrize("preset", ["int8", "int4", "int8-dynamic", "int8-static", "hybrid"])
def test_presets(capsys, micro_pipeline, ranges, tmp_path, preset):
    out = tmp_path / "out"
    arguments = ("onnx", micro_pipeline, "-o", out, "--quantize", preset, *OPTIONS)
    if preset in ("int8-static", "hybrid"):
        arguments += ("--calibration", ranges)
    status, text, err = call(capsys, *arguments)
    assert status == 0, err
    unet, *others = sorted(load_manifest(out).components, key=lambda each: each.role != "unet")
    assert all(each.compression is None for each in others)
    assert unet.compression["recipe"] == preset
    assert unet.compression["layers"]["quantized"] == sum(unet.compression["formats"].values())
    assert 0.5 < unet.compression["macs"] <= 1
    assert "layers" in text
    assert json.loads((out / "parity.json").read_text())["passed"]
    integers = preset in ("int8-dynamic", "int8-static", "hybrid")
    assert ("layers in integers" in text) is integers
    assert "though quantized" not in text


def test_a_recipe_file(capsys, micro_pipeline, checkpoint, tmp_path):
    from kdexport.cli.quantization import _architecture

    digest = _architecture(checkpoint)["unet"]
    recipe = {
        "kdexport_recipe": 1,
        "architecture": {"unet": digest},
        "components": {"unet": {"default": "int8", "layers": {"*.ff.*": "int4"}}},
    }
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(recipe))
    out = tmp_path / "out"
    status, _, err = call(
        capsys, "onnx", micro_pipeline, "-o", out, "--quantize", file, *OPTIONS, "--json"
    )
    assert status == 0, err
    unet = load_manifest(out).component("unet")
    assert unet.compression["recipe"] == "mine.json"
    assert set(unet.compression["formats"]) == {"int8", "int4"}
    assert unet.graded == "int4"
    recipe["architecture"]["unet"] = "0" * 64
    file.write_text(json.dumps(recipe))
    arguments = ("onnx", micro_pipeline, "-o", tmp_path / "two", "--quantize", file, *OPTIONS)
    status, _, err = call(capsys, *arguments)
    assert (status, "The recipe is for another model" in err) == (1, True)
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(
    ("extra", "status", "message"),
    [
        (["--quantize", "int3"], 1, "no weight format 'int3'; choose float"),
        (["--quantize", "palette6"], 1, "ONNX has no palettes and no sparse weights"),
        (["--quantize", "fp8", "--calibration", "{ranges}"], 1, "export to TensorRT"),
        (["--quantize", "int8-static"], 1, "name it with --calibration"),
        (["--quantize", "{here}/missing.json"], 1, "missing.json' cannot be read"),
        (["--quantize", "hybrid", "--calibration", "{here}/no.json"], 1, "no.json' cannot be read"),
        (["--quantize", "hybrid", "--calibration", "{here}/no.npz"], 1, "no calibration data"),
        (["--calibration", "{ranges}"], 2, "--calibration is for --quantize"),
        (["--quantize", "int4", "--attention", "portable", "--opset", "18"], 1, "need opset 21"),
    ],
)
def test_refusals(capsys, micro_pipeline, ranges, tmp_path, extra, status, message):
    extra = [each.format(here=tmp_path, ranges=ranges) for each in extra]
    found, _, err = call(capsys, "onnx", micro_pipeline, "-o", tmp_path / "out", *extra)
    assert (found, message in err) == (status, True), err
    assert list(tmp_path.iterdir()) == []


def test_a_table_without_ranges_is_refused(checkpoint, ranges, tmp_path):
    save_table(replace(read_table(ranges), ranges={}), tmp_path / "t.json", overwrite=False)
    with pytest.raises(CalibrationError, match="no ranges of activations"):
        read_ranges(tmp_path / "t.json", checkpoint)


def test_a_table_of_another_model_is_refused(checkpoint, ranges, tmp_path):
    table = replace(read_table(ranges), architecture={"unet": "ab"})
    save_table(table, tmp_path / "t.json", overwrite=False)
    with pytest.raises(RecipeError, match="table is of 'micro'"):
        read_ranges(tmp_path / "t.json", checkpoint)


def test_presets_speak_of_the_unet(checkpoint, ranges):
    made = QuantizeRequest("hybrid", ranges).resolve(checkpoint, lambda *_: None, "signed")
    assert set(made.recipe.components) == {"unet"}
    assert made.activations == "signed"
    assert np.isclose(made.ranges["conv_in"].input.high, 6.0)
    assert QuantizeRequest("int8", ranges).resolve(checkpoint, lambda *_: None).ranges is None
