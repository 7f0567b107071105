"""`--runtime openvino`, end to end on a pipeline that exports in seconds."""

import json
import shutil

import numpy as np
import pytest
from kdexport.core.compare import GATES, either
from kdexport.core.manifest import load_manifest
from kdexport.runtimes.registry import Engine
from PIL import Image

openvino = pytest.importorskip("openvino")

HAS_BFLOAT16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
SHORT = ("--schedulers", "", "--max-steps", 2)
SIZE = ("--steps", 2, "--size", 16, 24)


@pytest.fixture(scope="module")
def bundle(micro_bundle, tmp_path_factory):
    """A copy of it, for verifying writes to it."""
    return shutil.copytree(micro_bundle, tmp_path_factory.mktemp("openvino") / "bundle")


def verified(call, bundle, *options):
    status, text, err = call("verify", bundle, *SIZE, "--runtime", "openvino", *options)
    assert status == 0, err
    return json.loads((bundle / "parity.json").read_text()), text


def test_float32_is_held_to_its_gates(call, bundle):
    record, text = verified(call, bundle)
    assert "Computed in" not in text
    assert record["runtime"] == {"engine": "openvino", "provider": "cpu", "precision": "fp32"}
    assert record["passed"]
    assert {each["precision"] for each in record["components"]} == {"fp32"}
    assert {each["gate"] for each in record["components"]} == {GATES["fp32"].describe()}
    assert {each["role"] for each in record["components"]} == {
        "text_encoder",
        "unet",
        "vae_decoder",
    }
    assert record["runs"][0]["gate"] == "PSNR ≥ 45 dB"


@pytest.mark.skipif(not HAS_BFLOAT16, reason="this CPU does not compute in bfloat16")
def test_bfloat16_is_held_to_gates_of_its_own(call, bundle):
    record, text = verified(call, bundle, "--provider", "cpu-bf16")
    assert "Computed in bf16." in text
    assert record["runtime"]["precision"] == "bf16"
    assert record["passed"]
    assert {each["precision"] for each in record["components"]} == {"bf16"}
    assert {each["gate"] for each in record["components"]} == {GATES["bf16"].describe()}
    assert record["runs"][0]["gate"] == "PSNR ≥ 26 dB"
    # Those of float32 would have failed, so this was not float32.
    unet = [each for each in record["components"] if each["role"] == "unet"]
    assert min(each["difference"]["relative_l2"] for each in unet) > GATES["fp32"].component_l2


@pytest.mark.skipif(not HAS_BFLOAT16, reason="this CPU does not compute in bfloat16")
def test_each_component_of_a_mixture_is_held_to_its_own_gates(call, bundle):
    record, text = verified(call, bundle, "--provider", "cpu-mixed")
    assert "Computed in bf16, U-Net and ControlNet in fp32." in text
    assert record["runtime"]["precision"] == "bf16, U-Net and ControlNet in fp32"
    assert record["passed"]
    found = {each["role"]: each["gate"] for each in record["components"]}
    half, full = GATES["bf16"].describe(), GATES["fp32"].describe()
    assert found == {"text_encoder": half, "unet": full, "vae_decoder": half}
    assert record["runs"][0]["gate"] == "PSNR ≥ 26 dB"


@pytest.mark.skipif(HAS_BFLOAT16, reason="this CPU computes in bfloat16")
def test_no_bfloat16_is_an_error(call, bundle):
    status, _, err = call("run", bundle, "a", "--runtime", "openvino", "--provider", "cpu-bf16")
    assert status == 1
    assert "does not compute in bf16" in err


def test_draws(call, bundle, tmp_path):
    pictures = []
    for runtime in ("openvino", "onnxruntime"):
        file = tmp_path / f"{runtime}.png"
        given = ("--seed", 1, "--threads", 1, "--runtime", runtime, "-o", file)
        status, _, err = call("run", bundle, "a cat", *SIZE, *given)
        assert status == 0, err
        pictures.append(np.asarray(Image.open(file), int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_refusals(call, bundle, tmp_path):
    given = ("run", bundle, "a", "--runtime", "openvino", "-o", tmp_path / "a.png", "--provider")
    for provider, text in (("npu.9", "finds no device 'npu.9' here"), ("cpu-int8", "no precision")):
        status, _, err = call(*given, provider)
        assert (status, text in err) == (1, True)


@pytest.mark.parametrize("form", ["int8-dynamic", "int4"])
def test_forms(call, micro_pipeline, tmp_path, form):
    given = ("onnx", micro_pipeline, "-o", tmp_path / "b", "--no-verify", *SHORT)
    assert call(*given, "--quantize", form)[0] == 0
    record, _ = verified(call, tmp_path / "b")
    unet = [each for each in record["components"] if each["role"] == "unet"]
    assert {each["precision"] for each in unet} == {form}


def test_gates_of_two_precisions(bundle):
    manifest = load_manifest(bundle)
    engine = Engine.choose(manifest, bundle, "openvino")
    for each in GATES.values():
        assert either(each, GATES["fp32"]) == either(GATES["fp32"], each) == each
    assert either(GATES["int8"], GATES["bf16"]).component_psnr_db == 32.0
    assert either(GATES["int8"], GATES["bf16"]).image_psnr_db == 24.0
    for component in manifest.components:
        assert component.gates_in(engine.precision_of(component.role)) == component.gates
        assert component.graded_in("bf16") == "bf16"
