"""Packages on disk, and the runner."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from kdexport.core.errors import DependencyError, OptionError, RunError
from kdexport.core.manifest import TensorSpec
from kdexport.runtimes.mil.package import read_package
from kdexport.runtimes.mil.runner import PROVIDERS, MilOptions, MilRunner
from kdexport.runtimes.mil.signature import Port, check_sizes
from kdexport.runtimes.mil.toolbox import coremltools, quiet


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 64, 3, padding=1)
        self.out = torch.nn.Conv2d(64, 4, 3, padding=1)

    def forward(self, x):
        h = torch.nn.functional.interpolate(self.conv(x), scale_factor=2.0, mode="nearest")
        return self.out(torch.nn.functional.silu(h)).flatten(2).transpose(1, 2)


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(1)
    return Small().eval()


def save(model, path, **changes):
    with quiet():
        model.save(str(path))
    return path


@pytest.fixture(scope="module")
def package(mil, module, tmp_path_factory):
    model = mil.converted(module, [torch.zeros(2, 4, 6, 6)], half=True, package=True)
    return save(model, tmp_path_factory.mktemp("mil") / "small.mlpackage")


@pytest.fixture(scope="module")
def flexible(mil, module, tmp_path_factory):
    """The same network for enumerated sizes."""
    ct = coremltools()
    batch = torch.export.export(
        module,
        (torch.zeros(2, 4, 6, 6),),
        dynamic_shapes=(
            {2: torch.export.Dim("h", min=2, max=64), 3: torch.export.Dim("w", min=2, max=64)},
        ),
    ).run_decompositions({})
    with quiet():
        model = ct.convert(
            batch,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
            inputs=[ct.TensorType("x0", ct.EnumeratedShapes([(2, 4, 6, 6), (2, 4, 8, 4)]))],
            skip_model_load=True,
        )
    return save(model, tmp_path_factory.mktemp("mil") / "flexible.mlpackage")


def test_round_trip(mil, module, package):
    x = torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        reference = module(x).numpy()
    with MilRunner(package) as runner:
        signature = runner.describe()
        assert signature.inputs == (TensorSpec("x0", "float32", (2, 4, 6, 6)),)
        (output,) = signature.outputs
        assert (output.dtype, output.shape) == ("float16", (2, 144, 4))
        (half,) = runner.run({"x0": x.numpy()}).values()
    with MilRunner.create(package, "cpu-fp32", 1) as runner:
        (full,) = runner.run({"x0": x.numpy()}).values()
    assert mil.psnr(half, reference) > 50
    assert mil.psnr(full, reference) > 60
    assert half.dtype == full.dtype == np.float16


def test_float32_packages_are_exact(mil, module, flexible):
    with MilRunner(flexible) as runner:
        assert runner.describe().inputs[0].shape == (2, 4, "x0.2", "x0.3")
        assert runner.describe().outputs[0].shape[2] == 4
        for size in ((6, 6), (8, 4)):
            x = torch.randn(2, 4, *size)
            (result,) = runner.run({"x0": x.numpy()}).values()
            with torch.no_grad():
                assert mil.relative(result, module(x)) < 1e-5
        with pytest.raises(
            RunError,
            match=r"\(2, 4, 5, 5\), but the package allows only \(2, 4, 6, 6\), \(2, 4, 8, 4\)",
        ):
            runner.run({"x0": np.zeros((2, 4, 5, 5), np.float32)})


def test_ranges(mil, tmp_path):
    ct = coremltools()
    module = torch.nn.Conv1d(2, 3, 3)
    sized = torch.export.export(
        module, (torch.zeros(1, 2, 9),), dynamic_shapes=({2: torch.export.Dim("n", min=5, max=12)},)
    ).run_decompositions({})
    with quiet():
        model = ct.convert(
            sized, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32, skip_model_load=True,
            inputs=[ct.TensorType("x0", (1, 2, ct.RangeDim(5, 12, default=9)))],
        )  # fmt: skip
    path = save(model, tmp_path / "range.mlpackage")
    with MilRunner(path) as runner:
        x = torch.randn(1, 2, 7)
        (result,) = runner.run({"x0": x.numpy()}).values()
        assert mil.relative(result, module(x).detach()) < 1e-5
        with pytest.raises(
            RunError, match="has the size 13 at axis 2, but the package allows only 5 to 12"
        ):
            runner.run({"x0": np.zeros((1, 2, 13), np.float32)})


def test_weights_are_views_of_the_file(package):
    read = read_package(package)
    large = [
        each.outputs[0].val
        for each in read.function.operations
        if each.op_type == "const" and np.size(each.outputs[0].val) > 1000
    ]
    assert len(large) == 2
    assert all(isinstance(each, np.memmap) and each.dtype == np.float16 for each in large)


def test_enumerated_shapes_of_several_inputs_belong_together(package):
    ports = [
        Port(name, "float32", (2, 4), "", ((2, 4), (2, 8)), ()) for name in ("first", "second")
    ]
    small, large = np.zeros((2, 4)), np.zeros((2, 8))
    check_sizes({"first": small, "second": small}, ports, package)
    check_sizes({"first": large, "second": large}, ports, package)
    with pytest.raises(RunError, match="are not of one set; the package allows"):
        check_sizes({"first": small, "second": large}, ports, package)


def test_threads_are_restored(package):
    before = torch.get_num_threads()
    seen = []
    runner = MilRunner(package, MilOptions(threads=before + 1))
    with runner:
        runner._evaluator.observer = lambda *_: seen.append(torch.get_num_threads())
        runner.run({"x0": np.zeros((2, 4, 6, 6), np.float32)})
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
    assert not runner.is_open


def copy(package, tmp_path):
    path = tmp_path / "copy.mlpackage"
    shutil.copytree(package, path)
    return path


def edit(path, change):
    file = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    spec = coremltools("proto.Model_pb2").Model()
    spec.ParseFromString(file.read_bytes())
    change(spec)
    file.write_bytes(spec.SerializeToString())


def test_missing_packages(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        read_package(tmp_path / "none.mlpackage")
    (tmp_path / "file.mlpackage").write_text("x")
    with pytest.raises(RunError, match="is a file, not a package folder"):
        read_package(tmp_path / "file.mlpackage")
    with pytest.raises(RunError, match=r"no readable Manifest.json"):
        read_package(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "Manifest.json").write_text("{"), "no readable Manifest.json"),
        (
            lambda path: (path / "Manifest.json").write_text(json.dumps({"itemInfoEntries": {}})),
            "Manifest",
        ),
        (lambda path: (path / "Data/com.apple.CoreML/model.mlmodel").unlink(), "lacks its file"),
        (
            lambda path: (path / "Data/com.apple.CoreML/model.mlmodel").write_bytes(b"\xff" * 99),
            "cannot be read",
        ),
        (
            lambda path: (path / "Data/com.apple.CoreML/weights/weight.bin").unlink(),
            "cannot be read",
        ),
        (lambda path: truncate(path, 64), "too short|damaged|cannot be read"),
        (lambda path: truncate(path, 1000), "too short|damaged"),
        (lambda path: edit(path, cut_operation), "cannot be read"),
        (lambda path: edit(path, as_network), "of the kind 'neuralNetwork'; only ML programs"),
        (lambda path: edit(path, as_image), "'x0' of .* is of the kind 'imageType'"),
        (lambda path: edit(path, second_function), "has 2 functions"),
        (lambda path: edit(path, doubles), "element type that is not supported"),
    ],
)
def test_damaged_packages(package, tmp_path, damage, message):
    path = copy(package, tmp_path)
    damage(path)
    with pytest.raises(RunError, match=message):
        read_package(path)


def truncate(path, size):
    file = path / "Data/com.apple.CoreML/weights/weight.bin"
    file.write_bytes(file.read_bytes()[:size])


def cut_operation(spec):
    (function,) = spec.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    del block.operations[3]


def as_network(spec):
    spec.neuralNetwork.SetInParent()


def as_image(spec):
    spec.description.input[0].type.imageType.width = 8


def second_function(spec):
    spec.mlProgram.functions["other"].CopyFrom(spec.mlProgram.functions["main"])


def doubles(spec):
    spec.description.input[0].type.multiArrayType.dataType = 65600


def test_options():
    with pytest.raises(OptionError, match="no provider 'gpu'; choose cpu or cpu-fp32"):
        MilOptions(provider="gpu")
    with pytest.raises(OptionError, match="at least 1, not 0"):
        MilOptions(threads=0)
    assert list(PROVIDERS) == ["cpu", "cpu-fp32"]


def test_without_coremltools(package, monkeypatch):
    for name in [each for each in sys.modules if each.split(".")[0] == "coremltools"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(DependencyError, match=r"pip install kdexport\[coreml\]"):
        MilRunner(package)
    with pytest.raises(DependencyError, match="coremltools"):
        read_package(package)


def test_loading_is_silent(package):
    code = (
        "from pathlib import Path; import sys\n"
        "from kdexport.runtimes.mil.runner import MilRunner\n"
        "assert 'coremltools' not in sys.modules\n"
        "MilRunner(Path(sys.argv[1])).open()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(package)], capture_output=True, text=True, check=True
    )
    assert done.stdout == done.stderr == ""
