"""Whole pipelines to TensorRT engines for GPUs that are not here."""

import json
import shutil

import numpy as np
import pytest
from kdexport import Pipeline
from kdexport.cli.main import main
from kdexport.core.errors import BundleError
from kdexport.core.manifest import load_manifest

pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def call(capfd):
    """Runs a command in this process; gives its status, what it printed and its complaint."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(each) for each in arguments])
        told = capfd.readouterr()
        return ended.value.code or 0, told.out, told.err

    return run


SHORT = ("--schedulers", "", "--max-steps", 4, "--verify-steps", 2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, micro_pipeline):
    made = tmp_path_factory.mktemp("tensorrt") / "bundle"
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in ("tensorrt", micro_pipeline, "-o", made, *SHORT)])
    assert not ended.value.code
    return made


def test_engines_beside_the_onnx_files(bundle):
    manifest = load_manifest(bundle)
    assert manifest.backend == "tensorrt"
    assert {each.role for each in manifest.engines} == {each.role for each in manifest.components}
    for engine in manifest.engines:
        assert engine.capability == "sm_89"
        assert engine.file == f"{engine.role}.sm89.rtx.engine"
        assert (bundle / engine.file).stat().st_size > 1000
    assert manifest.parity["passed"]
    assert "not executed" in manifest.parity["runtime"]["tensorrt"]
    card = (bundle / "README.md").read_text()
    assert "engines were not executed" in card
    assert "| `unet.sm89.rtx.engine` | sm\\_89" in card
    (unet,) = (each for each in manifest.engines if each.role == "unet")
    smallest, _, largest = unet.profile["sample"]
    # With guidance or without.
    assert (smallest[0], largest[0]) == (1, 2)
    assert smallest[1:] == largest[1:]


def test_the_same_request_does_nothing(bundle, micro_pipeline, call):
    before = {each: each.stat().st_mtime_ns for each in bundle.rglob("*")}
    status, out, _ = call("tensorrt", micro_pipeline, "-o", bundle, *SHORT)
    assert status == 0
    assert "made from this request and is whole; nothing to do" in out
    assert {each: each.stat().st_mtime_ns for each in bundle.rglob("*")} == before
    status, _, err = call("tensorrt", micro_pipeline, "-o", bundle, *SHORT, "--profile", "batch=2")
    assert status == 1
    assert "already exists" in err


def test_other_gpus_from_a_bundle(bundle, tmp_path, call):
    status, out, err = call(
        "tensorrt", bundle, "-o", tmp_path / "b", "--gpu", 3090, "--gpu", "sm_120"
    )
    assert status == 0, err
    manifest = load_manifest(tmp_path / "b")
    assert {each.capability for each in manifest.engines} == {"sm_86", "sm_120"}
    assert manifest.parity["passed"]
    assert not list((tmp_path / "b").glob("*sm89*"))
    assert "3090" in out


def test_bfloat16_and_the_operator_of_attention(tmp_path, micro_pipeline, call):
    options = ("--precision", "bf16", "--attention", "native", "--gpu", "L4", "--json")
    status, out, err = call("tensorrt", micro_pipeline, "-o", tmp_path / "b", *options, *SHORT)
    assert status == 0, err
    assert "rounded to bfloat16" in json.loads(out)["parity"]["runtime"]["bfloat16"]
    manifest = load_manifest(tmp_path / "b")
    assert {each.role: each.precision for each in manifest.components} == {
        "text_encoder": "mixed",
        "unet": "bf16",
        "vae_decoder": "mixed",
    }
    assert manifest.parity["passed"]
    status, out, err = call("verify", tmp_path / "b", "--steps", 2)
    assert status == 0, err
    assert "Computed on the CPU as bfloat16 in float32" in out


def test_verify_and_inspect(bundle, call):
    status, out, err = call("verify", bundle, "--steps", 2)
    assert status == 0, err
    assert "built, not executed here" in out.replace("\n", " ")
    status, out, _ = call("inspect", bundle)
    assert status == 0
    assert "unet.sm89.rtx.engine" in out
    assert "sm_89" in out
    status, out, _ = call("inspect", bundle, "--json")
    assert len(json.loads(out)["engines"]) == 3


def test_it_draws_without_a_gpu(bundle):
    with Pipeline.load(bundle) as pipeline:
        assert np.asarray(pipeline("a red boat", steps=2, seed=1)).std() > 1


def test_a_run_says_what_is_not_executed(bundle, tmp_path, call, recwarn):
    given = ("run", bundle, "a red boat", "--steps", 2, "-o", tmp_path / "a.png")
    status, out, err = call(*given, "--json")
    assert status == 0
    assert json.loads(out)["steps"] == 2
    assert "engines are not executed" in err.replace("\n", " ")
    assert "not executed" not in call(*given, "--runtime", "onnxruntime")[2]


def test_a_truncated_engine_is_refused(bundle, tmp_path, call):
    shutil.copytree(bundle, tmp_path / "copy")
    engine = tmp_path / "copy" / "unet.sm89.rtx.engine"
    engine.write_bytes(engine.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"unet.sm89.rtx.engine' .* was changed or damaged"):
        Pipeline.load(tmp_path / "copy")
    assert call("inspect", tmp_path / "copy")[0] == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--gpu", "H100"), "--engine native"),
        (("--gpu", "9000"), "9000"),
        (("--engine", "onnx"), "rtx"),
        (("--precision", "fp8"), "fp8"),
        (("--profile", "batch=4,2,8"), "minimum, optimum, maximum"),
        (("--profile", "depth=4"), "depth"),
        (("--profile", "height=60"), "multiple of"),
        (("--level", 3), "native"),
        (("--verify-size", 64, 8), "64"),
    ],
)
def test_refusals(micro_pipeline, tmp_path, call, options, complaint):
    status, _, err = call("tensorrt", micro_pipeline, "-o", tmp_path / "b", *options, *SHORT)
    assert status == 1
    assert complaint in err
    assert not (tmp_path / "b").exists()


def test_onnx_of_another_exporter(tmp_path, call):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.onnx").write_bytes(b"x")
    status, _, err = call("tensorrt", tmp_path, "-o", tmp_path / "b", *SHORT)
    assert status == 1
    assert "kdexport onnx" in err


def test_a_bundle_that_engines_cannot_be_built_from(tmp_path, micro_pipeline, call):
    fused = tmp_path / "fused"
    assert call("onnx", micro_pipeline, "-o", fused, "--no-verify", *SHORT[:4])[0] == 0
    status, _, err = call("tensorrt", fused, "-o", tmp_path / "b")
    assert status == 1
    assert "--attention portable" in err
    status, _, err = call("tensorrt", fused, "-o", tmp_path / "b", "--lora", "x")
    assert status == 1
    assert "model cannot be changed; leave out --lora" in err
    for given in (("--precision", "fp16"), ("--attention", "native"), ("--max-steps", 4)):
        status, _, err = call("tensorrt", fused, "-o", tmp_path / "b", *given)
        assert status == 1
        assert f"leave out {given[0]}" in err
    assert not (tmp_path / "b").exists()
