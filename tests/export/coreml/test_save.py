import dataclasses
import json

import coremltools as ct
import numpy as np
import pytest
from kdexport.core.compare import compare
from kdexport.core.errors import ExportError, OptionError
from kdexport.core.manifest import TensorSpec
from kdexport.export.coreml.convert import to_program
from kdexport.export.coreml.half import to_half
from kdexport.export.coreml.metadata import PackageMetadata
from kdexport.export.coreml.save import save_packages
from kdexport.export.coreml.toolbox import deployment_target
from kdexport.runtimes.mil.evaluate import Evaluator
from kdexport.runtimes.mil.package import read_package

METADATA = PackageMetadata("A toy.", "Someone", "MIT", "1.2", {"com.example.key": "value"})


def save(toy, path, **changes):
    arguments = {
        "inputs": toy.module.inputs,
        "outputs": toy.module.outputs,
        "precision": "fp16",
        "islands": toy.islands,
        "target": "iOS17",
        "metadata": METADATA,
        "program": toy.program(),
    }
    arguments |= changes
    program = arguments.pop("program")
    return save_packages(program, [path], **arguments)[0]


def run(path, feed):
    return Evaluator(read_package(path).function).run(feed)["noise_pred"]


@pytest.mark.parametrize(("precision", "least"), [("fp16", 55), ("fp32", 100)])
def test_precisions(toy, tmp_path, precision, least):
    saved = save(toy, tmp_path / "Unet.mlpackage", precision=precision)
    given = run(saved.path, toy.feed)
    assert given.dtype == np.float32
    assert compare(given, toy.given).psnr_db > least
    assert saved.inputs == (
        TensorSpec("sample", "float16", (2, 4, 8, 8)),
        TensorSpec("timestep", "float16", (2,)),
        TensorSpec("context", "float16", (2, 48, 1, 5)),
    )
    assert saved.outputs == (TensorSpec("noise_pred", "float32", (2, 4, 8, 8)),)
    assert saved.bytes == sum(
        each.stat().st_size for each in saved.path.rglob("*") if each.is_file()
    )
    weights = sum(each.numel() for each in toy.module.parameters())
    # The norm has a mean and a variance more, the module some numbers of its own.
    assert weights <= saved.parameters < weights + 512


def test_islands_stay_in_float32(toy, tmp_path):
    islands = {*toy.islands, "conv_in_conv2d"}
    saved = save(toy, tmp_path / "Unet.mlpackage", islands=islands)
    operations = {each.name: each for each in read_package(saved.path).function.operations}
    for name in islands:
        assert operations[name].outputs[0].dtype.__name__ == "fp32"
    assert operations["conv_in_weight"].outputs[0].val.dtype == np.float32
    assert operations["down_conv2d_cast_fp16"].outputs[0].dtype.__name__ == "fp16"
    plain = save(toy, tmp_path / "Plain.mlpackage", islands=())
    gain = [compare(run(each.path, toy.feed), toy.given).psnr_db for each in (saved, plain)]
    assert gain[0] > 55 > 45 > gain[1]


def test_float32_weights_are_let_go(toy):
    program = to_half(toy.program(), (), deployment_target("iOS17"))
    values = [each.outputs[0].val for each in program.functions["main"].operations]
    large = [each.dtype for each in values if getattr(each, "size", 0) >= 1024]
    assert large
    assert set(large) == {np.dtype(np.float16)}


def test_the_same_bytes_each_time(toy, tmp_path):
    folders = [save(toy, tmp_path / name / "Unet.mlpackage").path for name in ("a", "b")]
    files = [sorted(each.relative_to(folder) for each in folder.rglob("*")) for folder in folders]
    assert files[0] == files[1]
    for file in files[0]:
        if (folders[0] / file).is_file():
            assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()
    manifest = json.loads((folders[0] / "Manifest.json").read_text())
    assert manifest["rootModelIdentifier"] in manifest["itemInfoEntries"]
    # coremltools finds its way by the identifiers.
    model = ct.models.MLModel(str(folders[0]), skip_model_load=True)
    assert model.weights_dir.endswith("weights")


def test_several_sizes(toy, tmp_path):
    sizes = ({"height": 8, "width": 8}, {"height": 4, "width": 16})
    program = to_program(toy.module, sizes, "iOS17")
    saved = save(toy, tmp_path / "Unet.mlpackage", program=program)
    assert saved.inputs[0].shape == saved.outputs[0].shape == (2, 4, "height", "width")
    description = ct.utils.load_spec(str(saved.path)).description.input[0].type.multiArrayType
    shapes = [list(each.shape) for each in description.enumeratedShapes.shapes]
    assert shapes == [[2, 4, 8, 8], [2, 4, 4, 16]]
    for size in sizes:
        feed = toy.make_feed(toy.module, size)
        assert compare(run(saved.path, feed), toy.expected(toy.module, feed)).psnr_db > 55


def test_unknown_precision(toy, tmp_path):
    with pytest.raises(OptionError, match="no precision 'bf16'"):
        save(toy, tmp_path / "Unet.mlpackage", precision="bf16")


def test_unknown_islands(toy, tmp_path):
    with pytest.raises(ExportError, match="no operations nonsense to keep in float32"):
        save(toy, tmp_path / "Unet.mlpackage", islands=["nonsense"])


def test_compressed_weights_need_float16(toy, small, tmp_path):
    plan = small.plan_of_all("palette6")
    with pytest.raises(OptionError, match="choose the precision fp16"):
        save(toy, tmp_path / "Unet.mlpackage", precision="fp32", plan=plan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "latents"}, "'latents' is missing; 'sample' is not in the contract"),
        ({"dtype": np.float32}, "'sample' is float16 instead of float32"),
        ({"shape": (1, 4, "height", "width")}, "'sample' has the shape"),
        ({"shape": (2, 4, "height")}, "'sample' has the shape"),
    ],
)
def test_packages_that_break_the_contract(toy, tmp_path, change, message):
    import torch

    if "dtype" in change:
        change = {"dtype": torch.float32}
    inputs = (dataclasses.replace(toy.module.inputs[0], **change), *toy.module.inputs[1:])
    with pytest.raises(ExportError, match=message):
        save(toy, tmp_path / "Unet.mlpackage", inputs=inputs)


def test_it_can_be_stopped(toy, tmp_path):
    def stop(share):
        if share > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(toy, tmp_path / "Unet.mlpackage", progress=stop)
