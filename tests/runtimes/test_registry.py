"""Engines by name."""

from __future__ import annotations

import pytest
from kdexport.core.errors import OptionError, RunError
from kdexport.runtimes.base import Runner
from kdexport.runtimes.registry import BACKENDS, RUNTIMES, make_runner, open_runner


def test_every_name_has_a_class_and_a_backend(sd):
    assert set(RUNTIMES) == set(BACKENDS)
    for name in RUNTIMES:
        assert isinstance(make_runner(sd.folder / "unet/model.onnx", runtime=name), Runner)


def test_open_runner_opens(sd):
    with open_runner(sd.folder / "unet/model.onnx", provider="cpu", threads=1) as runner:
        assert runner.is_open
        assert runner.describe().outputs[0].name == "out_sample"
    assert not runner.is_open
    assert not make_runner(sd.folder / "unet/model.onnx").is_open


def test_unknown_names_are_listed(sd):
    with pytest.raises(OptionError, match="no runtime 'ort'; choose onnxruntime"):
        open_runner(sd.folder / "unet/model.onnx", runtime="ort")
    with pytest.raises(OptionError, match="no provider 'gpu'; choose cpu"):
        make_runner(sd.folder / "unet/model.onnx", provider="gpu")
    with pytest.raises(RunError, match="cannot open"):
        open_runner(sd.folder / "missing.onnx")
