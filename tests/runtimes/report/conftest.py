"""A manifest and what a verification of it may have found."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from kdexport.core import manifest as m
from kdexport.core.compare import GATES, compare, compare_images
from kdexport.core.parity import ComponentCheck, ImageCheck, ParityRecord, QualityCheck, StepCheck


@pytest.fixture
def manifest():
    spec = m.TensorSpec("sample", "float32", ("batch", 4, "height", "width"))
    unet = m.Component(
        "unet",
        "unet/model.onnx",
        "mixed",
        (spec,),
        (spec,),
        4_100_000,
        islands=("time_proj: loses digits",),
        compression={"formats": {"palette6": 30, "palette8": 2}},
        operators={"Conv": 60, "MatMul": 12},
    )
    return m.Manifest(
        schema_version=m.SCHEMA_VERSION,
        backend="onnx",
        family="sd",
        tools={"kdexport": "0.1.0", "onnx": "1.23.2"},
        source=m.SourceRecord("maker/model", "abc", {"a": "0" * 64}, "StableDiffusionPipeline"),
        components=(unet,),
        text=(m.TextEncoding("text_encoder", "tokenizer/t.json", 77, 0, 1, 1, "last"),),
        zero_negative=False,
        latents=m.Latents(4, 8, 0.18215, 0.0),
        shapes=m.Shapes(64, None, None, None),
        defaults=m.Defaults(50, 7.5, 512, 512, None, "default"),
        samplers=(m.SamplerRecord("default", "PNDMScheduler", "samplers/default.json", (1, 2)),),
        files=(m.FileRecord("unet/model.onnx", "0" * 64, 1_200_000_000),),
    )


def _component(error, output="out_sample"):
    difference = compare(np.ones(8) + error, np.ones(8))
    passed = GATES["fp32"].component_passes(difference)
    return ComponentCheck(
        "unet", output, "64x64, 2 rows", "fp32", "relative L2 ≤ 0.0001", difference, passed
    )


def _run(level, prompt="a cat", broken=None):
    theirs = np.random.default_rng(0).integers(0, 200, (1, 48, 64, 3), dtype=np.uint8)
    ours = theirs + np.uint8(level)
    images = () if broken else (compare_images(ours[0], theirs[0]),)
    passed = bool(images) and GATES["fp32"].image_passes(images[0])
    steps = tuple(
        StepCheck(index, 999.0 - index, compare(np.ones(4) + error, np.ones(4)))
        for index, error in enumerate((0.0, 1e-6, 1e-3))
    )
    check = ImageCheck("48x64, 3 calls", prompt, "PSNR ≥ 45 dB", steps, images, passed, broken)
    return check, (ours, theirs)


@pytest.fixture
def found():
    """Makes a record and its pictures; see `_component` and `_run`."""

    def make(errors=(0.0, 1e-7), levels=(0, 1), broken=None, prompt="a cat", quality=False):
        made = [_run(level, prompt) for level in levels]
        runs, pictures = [each[0] for each in made], tuple(each[1] for each in made)
        if broken:
            runs.insert(0, _run(0, prompt, broken)[0])
        scores = {"overall": 0.9, "colour": 0.8}
        scored = QualityCheck(16, scores, scores, 1, "at most 5 points lower", True)
        record = ParityRecord(
            {"model": "maker/model", "torch": "2.13", "diffusers": "0.42", "transformers": "5.23"},
            {"engine": "onnxruntime", "provider": "cpu"},
            tuple(_component(each) for each in errors),
            tuple(runs),
            {"images": 1.25},
            scored if quality else None,
            {"steps": 4, "seed": 3, "guidance": 7.5, "size": [48, 64], "prompts": [prompt]},
        )
        return record, pictures

    return make


@pytest.fixture
def hidden_states(found):
    """A record with outputs that say nothing more, one of which fails."""
    record, pictures = found()
    extra = [_component(0.0, "hidden_states.1"), _component(1.0, "hidden_states.2")]
    return SimpleNamespace(
        record=replace(record, components=(*record.components, *extra)), pictures=pictures
    )
