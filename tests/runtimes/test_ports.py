"""What Core ML components are in the loop, and how their packages are fed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import BundleError, RunError
from kdexport.core.manifest import Component, TensorSpec
from kdexport.runtimes.base import Runner, Signature
from kdexport.runtimes.coreml_component import CoremlComponent, package_feeds
from kdexport.runtimes.ports import loop_signature

UNET = Component(
    role="unet",
    file="Unet.mlpackage",
    precision="fp16",
    inputs=(
        TensorSpec("sample", "float16", (2, 4, 8, 8)),
        TensorSpec("timestep", "float16", (2,)),
        TensorSpec("encoder_hidden_states", "float16", (2, 6, 1, 5)),
    ),
    outputs=(TensorSpec("noise_pred", "float32", (2, 4, 8, 8)),),
    parameters=1,
    ports={
        "sample": "sample",
        "timestep": "timestep",
        "encoder_hidden_states": "encoder_hidden_states",
        "noise_pred": "out_sample",
    },
)
TEXT = Component(
    role="text_encoder",
    file="TextEncoder.mlpackage",
    precision="fp16",
    inputs=(TensorSpec("input_ids", "float32", (1, 5)),),
    outputs=(TensorSpec("last_hidden_state", "float32", (1, 5, 6)),),
    parameters=1,
    ports={"input_ids": "input_ids", "last_hidden_state": "last_hidden_state"},
)


class Scripted(Runner):
    """A package whose body is a Python function; remembers what it was fed."""

    def __init__(self, path, inputs, outputs, body):
        super().__init__(path)
        self.signature, self.body, self.fed = Signature(inputs, outputs), body, []

    def _open(self):
        return self.signature

    def _run(self, feed, outputs):
        self.fed.append(feed)
        return self.body(feed)

    def _close(self):
        pass


def unet_feed(rows):
    numbers = np.random.default_rng(rows)
    return {
        "sample": numbers.normal(size=(rows, 4, 8, 8)).astype(np.float32),
        "timestep": np.array(981.0, np.float32),
        "encoder_hidden_states": numbers.normal(size=(rows, 5, 6)).astype(np.float32),
    }


def test_the_loop_sees_the_ports_of_onnx():
    signature = loop_signature(UNET)
    assert signature.inputs == (
        TensorSpec("sample", "float32", ("batch", 4, 8, 8)),
        TensorSpec("timestep", "float32", ()),
        TensorSpec("encoder_hidden_states", "float32", ("batch", 5, 6)),
    )
    assert signature.outputs == (TensorSpec("out_sample", "float32", ("batch", 4, 8, 8)),)
    assert loop_signature(TEXT).inputs == (TensorSpec("input_ids", "int64", ("batch", 5)),)
    plain = replace(UNET, ports={})
    assert loop_signature(plain) == Signature(UNET.inputs, UNET.outputs)


@given(rows=st.integers(1, 5))
def test_any_number_of_rows(rows):
    runner = Scripted(
        "p", UNET.inputs, UNET.outputs, lambda fed: {"noise_pred": fed["sample"].astype(np.float32)}
    )
    feed = unet_feed(rows)
    with CoremlComponent(UNET, Path(), [runner]) as component:
        result = component.run(feed)["out_sample"]
    np.testing.assert_array_equal(result, feed["sample"].astype(np.float16))
    assert len(runner.fed) == (rows + 1) // 2
    for fed in runner.fed:
        assert fed["timestep"].tolist() == [981, 981]
        assert fed["encoder_hidden_states"].shape == (2, 6, 1, 5)
    first = runner.fed[0]["encoder_hidden_states"][0, :, 0]
    np.testing.assert_array_equal(first, feed["encoder_hidden_states"][0].T.astype(np.float16))


def test_token_ids_become_numbers():
    (fed,) = package_feeds(TEXT, {"input_ids": np.array([[49406, 1, 2, 3, 49407]])})
    assert fed["input_ids"].dtype == np.float32
    assert fed["input_ids"].tolist() == [[49406, 1, 2, 3, 49407]]


def test_chunks_run_one_after_the_other():
    between = TensorSpec("between", "float16", (2, 4, 8, 8))
    first = Scripted("1", UNET.inputs[:2], (between,), lambda fed: {"between": fed["sample"] * 2})
    second = Scripted(
        "2",
        (between, UNET.inputs[2]),
        UNET.outputs,
        lambda fed: {"noise_pred": fed["between"].astype(np.float32)},
    )
    feed = unet_feed(2)
    with CoremlComponent(UNET, Path(), [first, second]) as component:
        result = component.run(feed)["out_sample"]
    np.testing.assert_array_equal(result, feed["sample"].astype(np.float16) * 2)
    assert set(second.fed[0]) == {"between", "encoder_hidden_states"}


def test_packages_that_are_not_what_the_manifest_says():
    wrong = replace(UNET.inputs[0], dtype="float32")
    runner = Scripted("p", (wrong, *UNET.inputs[1:]), UNET.outputs, None)
    component = CoremlComponent(UNET, Path(), [runner])
    with pytest.raises(BundleError, match=r"inputs of 'Unet.mlpackage' are .*'sample': 'float32'"):
        component.open()
    assert not runner.is_open
    with pytest.raises(RunError, match="not open"):
        component.run(unet_feed(2))


@pytest.mark.parametrize(("scale", "inside"), [(1.0, 1.0), (0.5, 1.0), (0.5, 2.0)])
def test_the_residuals_of_a_controlnet_are_scaled(scale, inside):
    output = TensorSpec("additional_residual_0", "float32", (2, 4, 8, 8))
    ports = {**UNET.ports, "additional_residual_0": "mid_block_residual"}
    component = replace(
        UNET, role="controlnet", outputs=(output,), ports=ports, residual_scale=inside
    )
    runner = Scripted(
        "p",
        UNET.inputs,
        (output,),
        lambda fed: {"additional_residual_0": np.full((2, 4, 8, 8), inside, np.float32)},
    )
    with CoremlComponent(component, Path(), [runner]) as opened:
        feed = {**unet_feed(2), "conditioning_scale": np.array(scale, np.float32)}
        assert np.unique(opened.run(feed)["mid_block_residual"]).tolist() == [scale]


def test_a_tiny_encoder_gives_latents():
    component = replace(
        TEXT,
        role="vae_encoder",
        inputs=(TensorSpec("x", "float16", (1, 3, 16, 16)),),
        outputs=(TensorSpec("latent", "float32", (1, 8, 2, 2)),),
        ports={"x": "sample", "latent": "latent_sample"},
    )
    assert loop_signature(component).outputs[0].shape == ("batch", 4, 2, 2)
    moments = np.arange(32, dtype=np.float32).reshape(1, 8, 2, 2)
    runner = Scripted("p", component.inputs, component.outputs, lambda fed: {"latent": moments})
    with CoremlComponent(component, Path(), [runner]) as opened:
        latents = opened.run({"sample": np.zeros((1, 3, 16, 16), np.float32)})["latent_sample"]
    np.testing.assert_array_equal(latents, moments[:, :4])
