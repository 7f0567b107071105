"""`--quantize` and `--calibration` of `kdexport tensorrt`."""

import json

import pytest
from kdexport.cli.main import main
from kdexport.cli.quantization import QuantizeRequest
from kdexport.cli.quantizing_tensorrt import request_key
from kdexport.core.errors import CalibrationError, OptionError, RecipeError
from kdexport.core.manifest import load_manifest

pytest.importorskip("tensorrt_rtx")

SHORT = ("--schedulers", "", "--max-steps", 4, "--verify-steps", 1)


@pytest.fixture
def call(capfd):
    """Runs a command in this process; gives its status, what it printed and its complaint."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(each) for each in arguments])
        told = capfd.readouterr()
        return ended.value.code or 0, told.out, " ".join(told.err.split())

    return run


@pytest.fixture
def calibration(micro_pipeline, tmp_path, call):
    file = tmp_path / "calib.npz"
    status, _, err = call(
        "calibrate", micro_pipeline, "-o", file, "--samples", 2, "--steps", 1, "--json"
    )
    assert status == 0, err
    return file


def test_a_quantized_bundle(micro_pipeline, calibration, tmp_path, call):
    given = ("tensorrt", micro_pipeline, "-o", tmp_path / "b", "--calibration", calibration)
    status, out, err = call(*given, *SHORT, "--quantize", "fp8")
    assert status == 0, err
    assert "fp8: " in out
    manifest = load_manifest(tmp_path / "b")
    unet = manifest.component("unet")
    assert (unet.precision, unet.compression["recipe"], unet.graded) == ("mixed", "fp8", "fp8")
    assert {each.capability for each in manifest.engines} == {"sm_89"}
    assert manifest.parity["passed"]
    assert "not executed" in manifest.parity["runtime"]["tensorrt"]
    # The same again: no range is measured for that.
    status, out, _ = call(*given, *SHORT, "--quantize", "fp8")
    assert status == 0
    assert "nothing to do" in out
    status, _, err = call(*given, *SHORT, "--quantize", "int8-static")
    assert status == 1
    assert "already exists" in err
    # Other engines of the same files.
    more = ("tensorrt", tmp_path / "b", "-o", tmp_path / "c", "--gpu")
    status, _, err = call(*more, "3090")
    assert status == 1
    assert "computes in float8, which GPUs have from sm_89 on" in err
    status, _, err = call(*more, "5090", "--quantize", "int8")
    assert status == 1
    assert "is a bundle, whose model cannot be changed; leave out --quantize" in err


def test_quantize_builds_engines_for_the_size_of_the_comparison(micro_pipeline, tmp_path, call):
    size = ("--size", 128, 128, "--steps", 1)
    form = ("--backend", "tensorrt", "--format", "int8")
    status, _, err = call("quantize", micro_pipeline, "-o", tmp_path / "forms", *form, *size)
    assert status in {0, 3}, err
    manifest = load_manifest(tmp_path / "forms" / "tensorrt-int8")
    assert (manifest.shapes.height, manifest.shapes.width) == (128, 128)
    figures = json.loads((tmp_path / "forms" / "figures.json").read_text())
    assert figures["forms"][0]["image_psnr_db"] > 10


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--quantize", "fp8"), "The format fp8 needs to know the ranges of activations"),
        (("--quantize", "fp8", "--gpu", "3090"), "The format fp8 computes in float8"),
        (("--quantize", "int4", "--gpu", "T4"), "The format int4 computes in int4"),
        (("--quantize", "palette4"), "there is no palette4"),
        (("--quantize", "int8-dynamic"), "TensorRT does not find ranges at run time"),
        (("--quantize", "int7"), "There is no weight format 'int7'"),
        (("--quantize", "missing.json"), "There is no recipe 'missing.json'"),
        (("--quantize", "fp8", "--calibration", "no.npz"), "There is no calibration data"),
        (("--precision", "fp8"), "choose --quantize fp8"),
        (("--precision", "int8"), "choose --quantize int8-static or int8"),
    ],
)
def test_refusals(micro_pipeline, tmp_path, call, options, complaint):
    status, _, err = call("tensorrt", micro_pipeline, "-o", tmp_path / "b", *options, *SHORT)
    assert status == 1
    assert complaint in err
    assert not (tmp_path / "b").exists()


def test_calibration_alone(micro_pipeline, tmp_path, call):
    given = ("-o", tmp_path / "b", "--calibration", tmp_path / "calib.npz")
    status, _, err = call("tensorrt", micro_pipeline, *given, *SHORT)
    assert status
    assert "--calibration is for --quantize" in err


@pytest.fixture
def recipe(tmp_path):
    """A recipe of two formats, and the function that writes it."""
    file = tmp_path / "recipe.json"

    def write(**layers):
        rules = {"default": "int8", "layers": {"conv_in.weight": "float", **layers}}
        file.write_text(json.dumps({"kdexport_recipe": 1, "components": {"unet": rules}}))
        return str(file)

    return write


def test_formats_that_are_asked_for(recipe):
    def names(what):
        return [each.name for each in QuantizeRequest(what, None).formats()]

    assert names("fp8") == ["fp8"]
    assert names("hybrid") == ["int8", "int8-static"]
    with pytest.raises(OptionError, match="no weight format 'int7'"):
        names("int7")
    assert names(recipe(**{"conv_out.weight": "fp8"})) == ["float", "int8", "fp8"]


def test_a_recipe_for_another_gpu(micro_pipeline, tmp_path, call, recipe):
    given = ("--quantize", recipe(**{"conv_out.weight": "fp8"}), "--gpu", "3090")
    status, _, err = call("tensorrt", micro_pipeline, "-o", tmp_path / "b", *given, *SHORT)
    assert status == 1
    assert "The format fp8 computes in float8" in err


def test_keys(recipe, tmp_path):
    data, other = tmp_path / "a.npz", tmp_path / "b.npz"
    data.write_bytes(b"1")
    other.write_bytes(b"2")
    keys = [
        request_key(QuantizeRequest(*each))
        for each in (("fp8", None), ("int8", None), ("fp8", data), ("fp8", other))
    ]
    keys += [
        request_key(QuantizeRequest(recipe(**layers), None))
        for layers in ({}, {"conv_out.weight": "fp8"})
    ]
    assert len(set(keys)) == len(keys)
    other.write_bytes(b"1")
    assert request_key(QuantizeRequest("fp8", other)) == keys[2]
    with pytest.raises(RecipeError, match=r"There is no recipe 'no\.json'; name a file\."):
        request_key(QuantizeRequest("no.json", None))
    with pytest.raises(CalibrationError, match="There is no calibration data"):
        request_key(QuantizeRequest("fp8", tmp_path / "c.npz"))
