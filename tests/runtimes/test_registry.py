"""Engines by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kdexport.core.errors import BundleError, OptionError, RunError
from kdexport.core.manifest import CoremlRecord
from kdexport.runtimes import registry
from kdexport.runtimes.base import Runner
from kdexport.runtimes.registry import BACKENDS, RUNTIMES, Engine


@pytest.fixture
def coreml(sd):
    record = CoremlRecord("iOS17", "cpu-and-gpu", "original", None, 2)
    return replace(sd.manifest, backend="coreml", coreml=record)


def test_every_name_has_a_class_and_a_backend():
    assert set(RUNTIMES) == set(BACKENDS)
    for name in ("onnxruntime", "mil"):
        assert isinstance(Engine(name, "cpu").runner("model"), Runner)


def test_an_engine_opens(sd):
    engine = Engine.choose(sd.manifest, sd.folder, threads=1)
    assert engine == Engine("onnxruntime", "cpu", 1)
    with engine.component(sd.manifest.component("unet"), sd.folder) as runner:
        assert runner.is_open
        assert runner.describe().outputs[0].name == "out_sample"
    assert not runner.is_open


@pytest.mark.parametrize(
    ("platform", "engine"),
    [("linux", Engine("mil", "cpu")), ("darwin", Engine("coreml", "cpu-and-gpu"))],
)
def test_what_runs_core_ml_bundles(coreml, sd, monkeypatch, platform, engine):
    monkeypatch.setattr(registry.sys, "platform", platform)
    assert Engine.choose(coreml, sd.folder) == engine
    assert Engine.choose(coreml, sd.folder, "mil", "cpu-fp32").provider == "cpu-fp32"


def test_what_does_not_fit(coreml, sd):
    with pytest.raises(BundleError, match=r"bundle for coreml, .* the runtime mil or coreml"):
        Engine.choose(coreml, sd.folder, "onnxruntime")
    with pytest.raises(BundleError, match=r"bundle for onnx, .* 'mil' does not read; choose the"):
        Engine.choose(sd.manifest, sd.folder, "mil")
    with pytest.raises(OptionError, match="no runtime 'ort'; choose onnxruntime"):
        Engine.choose(sd.manifest, sd.folder, "ort")
    with pytest.raises(OptionError, match="no provider 'gpu'; choose cpu"):
        Engine("onnxruntime", "gpu").runner(sd.folder / "unet/model.onnx")
    with pytest.raises(RunError, match="cannot open"):
        Engine("onnxruntime", "cpu").runner(sd.folder / "missing.onnx").open()
