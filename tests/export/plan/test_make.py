"""Plans: what they say, and that exports then do it."""

import re
from dataclasses import replace

import pytest
from kdexport.core.errors import OptionError
from kdexport.core.manifest import Shapes
from kdexport.core.options import ModelOptions
from kdexport.export.hub import HubOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.plan import make
from kdexport.export.plan.machine import this_machine
from kdexport.export.plan.make import PLANNERS, make_plan
from kdexport.export.plan.types import Machine
from kdexport.export.summary import summarize_checkpoint
from kdexport.runtimes.plan import allowed_size

PLENTY = Machine(rate=235e9, free_memory=10**12, free_disk=10**13)


@pytest.fixture(scope="module")
def model(micro_pipeline):
    checkpoint = load_checkpoint(str(micro_pipeline), HubOptions(), ModelOptions())
    return checkpoint, summarize_checkpoint(checkpoint, None)


@pytest.mark.parametrize("backend", PLANNERS)
def test_nothing_stands_in_the_way(model, backend):
    checkpoint, summary = model
    if backend == "tensorrt":
        pytest.importorskip("tensorrt_rtx")
    plan = make_plan(backend, checkpoint, summary, PLENTY, ())
    assert plan.obstacles == ()
    assert plan.command.startswith(f"kdexport {backend} {checkpoint.model}")
    data = plan.to_json()
    assert data["bytes"] == sum(file["bytes"] for file in data["files"]) > 0
    assert data["peak_rss"] == max(stage["peak_rss"] for stage in data["stages"]) > 5e8
    assert 5 < data["seconds"] < 120


def test_the_files_of_an_export_are_those_of_its_plan(model, micro_bundle):
    plan = make_plan("onnx", *model, PLENTY, ())
    for file in plan.files:
        path = micro_bundle / file.path
        data = path.with_name(path.name + ".data")
        written = path.stat().st_size + (data.stat().st_size if data.exists() else 0)
        # The graph itself comes on top of the weights.
        assert file.bytes <= written <= file.bytes + 3_000_000


@pytest.mark.parametrize("backend", PLANNERS)
def test_too_little_memory(model, backend):
    if backend == "tensorrt":
        pytest.importorskip("tensorrt_rtx")
    plan = make_plan(backend, *model, replace(PLENTY, free_memory=10**8), ())
    assert plan.obstacles == ()
    assert len(plan.doubts) >= 2
    text = " ".join(plan.doubts)
    assert "The comparison takes about 0." in text or "The comparison takes about 1." in text
    assert "--no-verify" in text
    assert "0.1 GB are free here" in text
    assert make_plan(backend, *model, replace(PLENTY, free_memory=None), ()).doubts == ()


@pytest.mark.parametrize(
    ("length", "multiple", "half"), [(512, 64, 256), (576, 64, 256), (64, 64, 64), (1024, 8, 512)]
)
def test_half_a_size_is_one_that_the_model_takes(length, multiple, half):
    assert make.half_size(length, multiple) == half


def test_the_advice_is_a_command_that_works(model):
    """The sizes that are advised are taken by what checks them."""
    checkpoint, _ = model
    summary = summarize_checkpoint(checkpoint, (48, 32))
    for backend, option in {"onnx": "--verify-size", "coreml": "--size"}.items():
        plan = make_plan(backend, checkpoint, summary, replace(PLENTY, free_memory=10**8), ())
        (advised,) = re.findall(rf"\({option} (\d+) (\d+)\)", " ".join(plan.doubts))
        height, width = map(int, advised)
        assert (height, width) < (48, 32)
        allowed_size(Shapes(summary.multiple, None, None, None), (height, width), (0, 0))


def test_the_command_is_that_of_what_was_planned(model):
    checkpoint, _ = model
    summary = summarize_checkpoint(checkpoint, (48, 32))
    given = ("--decoder", "a b")
    commands = [make_plan(each, checkpoint, summary, PLENTY, given).command for each in PLANNERS]
    assert all(command.endswith(" --decoder 'a b'") for command in commands)
    assert " --size 48 32 " in commands[1]
    if "--profile" in commands[2]:
        assert " --profile height=48 --profile width=32 " in commands[2]


def test_too_little_disk(model):
    plan = make_plan("onnx", *model, replace(PLENTY, free_disk=1000), ())
    assert [each for each in plan.obstacles if "GB of disk" in each]


def test_a_refusal_is_an_obstacle(model, monkeypatch):
    def refuse(*given):
        raise OptionError("It does not; do this.")

    monkeypatch.setattr(make, "PLANNERS", {"onnx": refuse})
    plan = make_plan("onnx", *model, PLENTY, ())
    assert plan.obstacles == ("It does not; do this.",)
    assert (plan.files, plan.seconds, plan.peak_rss) == ((), 0, 0)


def test_a_bug_is_none(model, monkeypatch):
    def fail(*given):
        raise ZeroDivisionError

    monkeypatch.setattr(make, "PLANNERS", {"onnx": fail})
    with pytest.raises(ZeroDivisionError):
        make_plan("onnx", *model, PLENTY, ())


def test_this_machine(tmp_path):
    machine = this_machine(tmp_path)
    assert 1e9 < machine.rate < 1e14
    assert machine.free_disk > 0
