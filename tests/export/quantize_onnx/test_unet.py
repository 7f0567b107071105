"""Quantized narrow U-Nets: the numbers, and what ONNX Runtime makes of the files."""

import copy

import numpy as np
import onnx
import pytest
import torch
from kdexport.core.compare import compare
from kdexport.core.options import OnnxOptions
from kdexport.core.quantization import Quantization
from kdexport.core.ranges import LayerRange, TensorRange
from kdexport.core.recipe import preset_recipe
from kdexport.core.rounding import rounded
from kdexport.export.hub import HubOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.prepare import prepare_export
from kdexport.export.skeleton import build_skeleton, fake_mode
from kdexport.export.to_onnx import write_onnx
from kdexport.runtimes.ort import OrtRunner
from kdexport.runtimes.ort_coverage import measure_coverage
from torch import nn


class Subject:
    """A U-Net of a pipeline, in torch."""

    def __init__(self, model):
        import diffusers

        self.checkpoint = load_checkpoint(str(model), HubOptions(None, None, True))
        self.source = self.checkpoint.component("unet")
        self.unet = diffusers.UNet2DConditionModel.from_pretrained(self.source.folder).eval()
        self.shapes = {name: tuple(t.shape) for name, t in self.unet.state_dict().items()}
        self.ranges = self.calibrate()

    def feed(self, batch=2, height=8, width=16):
        random = np.random.default_rng(batch + height * width)
        config, text = self.unet.config, self.checkpoint.component("text_encoder").config
        sizes = {
            "sample": (batch, config.in_channels, height, width),
            "encoder_hidden_states": (
                batch,
                text["max_position_embeddings"],
                config.cross_attention_dim,
            ),
        }
        feed = {name: random.standard_normal(size, np.float32) for name, size in sizes.items()}
        return feed | {"timestep": np.array(451.25, np.float32)}

    @torch.no_grad()
    def run(self, unet, feed):
        tensors = {name: torch.from_numpy(array) for name, array in feed.items()}
        return unet(**tensors, return_dict=False)[0].numpy()

    def calibrate(self):
        found = {}

        def hook(name):
            def look(_, inputs, output):
                found[name] = LayerRange(*map(_range, (inputs[0], output)))

            return look

        layers = [
            (name, each)
            for name, each in self.unet.named_modules()
            if isinstance(each, nn.Conv2d | nn.Linear)
        ]
        handles = [each.register_forward_hook(hook(name)) for name, each in layers]
        self.run(self.unet, self.feed())
        for handle in handles:
            handle.remove()
        return found

    def export(self, preset, folder, **options):
        recipe = preset_recipe(preset, {"unet": self.shapes})
        quantization = Quantization(preset, recipe, self.ranges)
        prepared = prepare_export(
            self.checkpoint,
            OnnxOptions(quantization=quantization, schedulers=(), max_steps=1, **options),
        )
        part = next(each for each in prepared.parts if each.role == "unet")
        plan = prepared.plans["unet"]
        written = write_onnx(
            part.wrap(build_skeleton(self.source, part.dtype)),
            fake_mode(),
            prepared.pipeline.weights["unet"],
            folder,
            opset=prepared.options.resolved_opset,
            static=part.static,
            plan=plan,
        )
        onnx.checker.check_model(folder / "model.onnx", full_check=True)
        return plan, plan.record(written.quantized), folder / "model.onnx"

    def with_rounded_weights(self, plan):
        changed = copy.deepcopy(self.unet)
        with torch.no_grad():
            for name, tensor in changed.state_dict().items():
                tensor.copy_(torch.from_numpy(rounded(plan.formats[name], tensor.numpy())))
        return changed


def _range(tensor):
    low, high = min(0.0, float(tensor.min())), max(0.0, float(tensor.max()))
    return TensorRange(low, high, max(-low, high), max(-low, high))


@pytest.fixture(scope="module")
def subjects(narrow):
    made = {}

    def subject(model):
        if model not in made:
            made[model] = Subject(model if model == "demo" else narrow(model))
        return made[model]

    return subject


@pytest.mark.parametrize(
    ("model", "preset", "options"),
    [
        ("bk-sdm-small", "int8", {}),
        ("bk-sdm-small", "int4", {"attention": "portable", "height": 128, "width": 64, "batch": 2}),
        ("demo", "int4", {}),
    ],
)
def test_weights_only(subjects, tmp_path, model, preset, options):
    subject = subjects(model)
    plan, record, path = subject.export(preset, tmp_path, **options)
    assert record["macs"] > 0.8
    reference = subject.with_rounded_weights(plan)
    with OrtRunner(path) as runner:
        height, width = runner.describe().inputs[0].shape[2:]
        sizes = [(2, height, width)] if options else [(2, 8, 16), (1, 16, 8)]
        for size in sizes:
            feed = subject.feed(*size)
            ours = runner.run(feed)["out_sample"]
            assert compare(ours, subject.run(reference, feed)).relative_l2 < 1e-5


@pytest.mark.parametrize(
    ("model", "preset", "attention"),
    [
        ("bk-sdm-small", "int8-static", "fused"),
        ("bk-sdm-small", "int8-static", "portable"),
        ("bk-sdm-small", "int8-dynamic", "fused"),
        ("demo", "int8-static", "fused"),
        ("demo", "hybrid", "fused"),
    ],
)
def test_all_that_is_quantized_runs_in_integers(subjects, tmp_path, model, preset, attention):
    subject = subjects(model)
    plan, _, path = subject.export(preset, tmp_path, attention=attention)
    feed = subject.feed()
    with OrtRunner(path) as runner:
        ours = runner.run(feed)["out_sample"]
    assert compare(ours, subject.run(subject.with_rounded_weights(plan), feed)).psnr_db > 30
    coverage = measure_coverage(path)
    asked = {
        name.removesuffix(".weight")
        for name, form in plan.formats.items()
        if form.activations is not None
    }
    assert len(asked) > 20
    assert set(coverage.asked) == asked
    assert set(coverage.integer) == asked
    assert coverage.missed == ()
    assert len(coverage.layers) == len(plan.macs)
