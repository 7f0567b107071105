"""Engines by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kdexport.core.errors import BundleError, OptionError, RunError
from kdexport.core.manifest import CoremlRecord, EngineRecord
from kdexport.runtimes import registry
from kdexport.runtimes.base import Runner
from kdexport.runtimes.loop import Loop
from kdexport.runtimes.ort import OrtRunner
from kdexport.runtimes.registry import BACKENDS, ENGINE_KINDS, RUNTIMES, Engine
from kdexport.runtimes.tensorrt import machine
from kdexport.runtimes.tensorrt.loop import DeviceLoop
from kdexport.runtimes.tensorrt.runner import TensorrtRunner


@pytest.fixture
def coreml(sd):
    record = CoremlRecord("iOS17", "cpu-and-gpu", "original", None, 2)
    return replace(sd.manifest, backend="coreml", coreml=record)


@pytest.fixture
def tensorrt(sd):
    """A manifest with an engine for each component."""
    engines = tuple(
        EngineRecord(each.role, f"{each.role}.plan", "rtx", "sm_89", "1.7", "0" * 64, {})
        for each in sd.manifest.components
    )
    return replace(sd.manifest, backend="tensorrt", engines=engines)


def test_every_name_has_a_class_and_a_backend():
    assert set(RUNTIMES) == set(BACKENDS)
    assert set(ENGINE_KINDS) < set(RUNTIMES)
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


@pytest.mark.parametrize(
    ("kind", "present", "runtime"),
    [("rtx", True, "tensorrt-rtx"), ("native", True, "tensorrt"), ("rtx", False, "onnxruntime")],
)
def test_what_runs_tensorrt_bundles(tensorrt, sd, monkeypatch, kind, present, runtime):
    monkeypatch.setattr(machine, "gpu_present", lambda: present)
    asked = []

    def engines_here(manifest, kind, provider):
        asked.append((kind, provider))
        return manifest.engines

    monkeypatch.setattr(machine, "engines_here", engines_here)
    engines = tuple(replace(each, kind=kind) for each in tensorrt.engines)
    manifest = replace(tensorrt, engines=engines)
    chosen = Engine.choose(manifest, sd.folder)
    assert chosen.runtime == runtime
    assert asked == ([(kind, "cuda")] if present else [])
    assert chosen.engines == (engines if present else ())
    assert chosen.provider == ("cuda" if present else "cpu")
    # The files that the engines were built from run anywhere.
    onnx = Engine.choose(manifest, sd.folder, "onnxruntime", threads=1)
    assert onnx == Engine("onnxruntime", "cpu", 1)
    with onnx.component(manifest.component("unet"), sd.folder) as runner:
        assert isinstance(runner, OrtRunner)
    given = Engine.choose(manifest, sd.folder, "tensorrt", "cuda:1")
    assert (given.provider, asked[-1]) == ("cuda:1", ("native", "cuda:1"))
    with pytest.raises(OptionError, match="leave the number of CPU threads out"):
        Engine.choose(manifest, sd.folder, "tensorrt", threads=2)


def test_a_bundle_whose_engines_are_gone(tensorrt, sd, monkeypatch):
    monkeypatch.setattr(machine, "gpu_present", lambda: pytest.fail("not to be asked"))
    bare = replace(tensorrt, engines=())
    assert Engine.choose(bare, sd.folder) == Engine("onnxruntime", "cpu")


def test_the_runners_of_a_bundle(tensorrt, sd):
    engine = Engine("tensorrt-rtx", "cuda", None, tensorrt.engines)
    make = engine.maker(sd.folder)
    runners = [make(each) for each in tensorrt.components]
    assert {type(each) for each in runners} == {TensorrtRunner}
    assert [each.record.role for each in runners] == [each.role for each in tensorrt.components]
    assert len({id(each._session) for each in runners}) == 1
    assert isinstance(engine.component(tensorrt.component("unet"), sd.folder), TensorrtRunner)
    assert isinstance(engine.loop(tensorrt, sd.folder), DeviceLoop)
    assert type(Engine("onnxruntime", "cpu").loop(sd.manifest, sd.folder)) is Loop
    with pytest.raises(OptionError, match="no provider 'cpu'; choose cuda, cuda-no-graphs"):
        replace(engine, provider="cpu").maker(sd.folder)


def test_what_does_not_fit(coreml, tensorrt, sd):
    with pytest.raises(BundleError, match=r"for tensorrt, .* choose the runtime onnxruntime, ten"):
        Engine.choose(tensorrt, sd.folder, "mil")
    with pytest.raises(BundleError, match=r"for onnx, which the runtime 'tensorrt' does not read"):
        Engine.choose(sd.manifest, sd.folder, "tensorrt")
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
