"""Layers that compute with 8-bit weights and 8-bit activations."""

import dataclasses

import numpy as np
import pytest
import torch
from kdexport.core.compare import compare
from kdexport.core.errors import CalibrationError
from kdexport.core.formats import FORMATS
from kdexport.core.ranges import LayerRange, TensorRange
from kdexport.export.coreml.chunk import split_program
from kdexport.export.coreml.compress import compress
from kdexport.export.coreml.metadata import PackageMetadata
from kdexport.export.coreml.program_weights import program_weights
from kdexport.export.coreml.save import save_packages
from kdexport.runtimes.mil.evaluate import Evaluator
from kdexport.runtimes.mil.package import read_package
from kdexport.runtimes.mil.precision import AsWritten, Float32

STATIC = "int8-static"


@pytest.fixture(scope="module")
def ranges(toy, small):
    """What goes in and out of every layer of the toy for its feed."""
    return small.ranges_of(toy.module, lambda: toy.expected(toy.module, toy.feed))


def fake_quantized(toy, small, plan, ranges):
    module = small.rounded_module(toy, plan)
    static = [name.removesuffix(".weight") for name, form in plan.items() if form.activations]
    small.quantize_inputs_of(module, static, ranges)
    return toy.expected(module, toy.feed)


def save(toy, paths, target, plan, ranges):
    return save_packages(
        toy.program(target),
        paths,
        inputs=toy.module.inputs,
        outputs=toy.module.outputs,
        precision="fp16",
        islands=toy.islands,
        target=target,
        metadata=PackageMetadata("x"),
        plan=plan,
        ranges=ranges,
    )


def pairs(function):
    """Each `quantize` with the layers that read it, having checked that both halves agree."""
    found = {}
    for operation in function.operations:
        if operation.op_type != "quantize":
            continue
        (dequantize,) = operation.outputs[0].child_ops
        assert dequantize.op_type == "dequantize"
        assert operation.scale.val == dequantize.scale.val
        assert operation.scale.val.dtype == np.float16
        assert operation.zero_point is None
        assert dequantize.zero_point is None
        found[operation] = list(dequantize.outputs[0].child_ops)
    return found


@pytest.mark.parametrize("target", ["iOS17", "iOS18"])
def test_it_computes_what_fake_quantization_does(toy, small, tmp_path, ranges, target):
    plan = small.plan_of_all(STATIC)
    (saved,) = save(toy, [tmp_path / "Unet.mlpackage"], target, plan, ranges)
    function = read_package(saved.path).function
    expected = fake_quantized(toy, small, plan, ranges)
    for precision in (AsWritten(), Float32()):
        given = Evaluator(function, precision).run(toy.feed)["noise_pred"]
        near = compare(given, expected).psnr_db
        # A value between two steps may go to either; each step is in both.
        assert near > 48
        assert near > compare(given, toy.given).psnr_db + 6
    readers = pairs(function)
    assert sum(map(len, readers.values())) == len(small.WEIGHTS)
    assert {each.op_type for layers in readers.values() for each in layers} == {"conv", "linear"}


def test_layers_that_read_the_same_share_it(toy, small, ranges):
    """Key and value of the attention; with a range of its own, a layer has a pair of its own."""
    other = LayerRange(TensorRange(-1, 1, 1, 9), TensorRange(-1, 1, 1, 1))
    for changed, count in ({}, 7), ({"attn.to_v": other}, 8):
        program = small.half_program(toy, "iOS17")
        compress(program, small.plan_of_all(STATIC), "iOS17", {**ranges, **changed})
        assert len(pairs(program.functions["main"])) == count


def test_values_beyond_the_range_saturate(toy, small, tmp_path, ranges):
    """Half of the range: what lies beyond becomes its end, and does not wrap around."""
    plan = {"conv_in.weight": FORMATS[STATIC]}
    before = ranges["conv_in"].input
    half = dataclasses.replace(before, peak=before.peak / 2)
    ranges = {"conv_in": LayerRange(half, ranges["conv_in"].output)}
    (saved,) = save(toy, [tmp_path / "Unet.mlpackage"], "iOS17", plan, ranges)
    seen = {}

    def observe(operation, inputs, results):
        if operation.op_type in ("quantize", "dequantize"):
            seen[operation.op_type] = results[0].clone()

    given = Evaluator(read_package(saved.path).function, observer=observe).run(toy.feed)
    assert (seen["quantize"].min(), seen["quantize"].max()) == (-128, 127)
    beyond = torch.from_numpy(np.abs(toy.feed["sample"]).astype(np.float32)) > 1.01 * half.peak
    assert beyond.sum() > 2
    assert bool((seen["dequantize"].abs()[beyond] > 0.99 * half.peak).all())
    expected = fake_quantized(toy, small, plan, ranges)
    assert compare(given["noise_pred"], expected).psnr_db > 50


def test_beside_other_formats(toy, small, tmp_path, ranges):
    """The hybrid: convolutions with activations, linear layers without; and what stays."""
    plan = small.plan_of_all("int8") | {
        "down.weight": FORMATS[STATIC],
        "conv_out.weight": FORMATS[STATIC],
        "conv_in.weight": FORMATS["float"],
    }
    (saved,) = save(toy, [tmp_path / "Unet.mlpackage"], "iOS17", plan, ranges)
    function = read_package(saved.path).function
    assert len(pairs(function)) == 2
    given = Evaluator(function, Float32()).run(toy.feed)["noise_pred"]
    assert compare(given, fake_quantized(toy, small, plan, ranges)).psnr_db > 45


def test_islands_keep_their_inputs(toy, small, ranges):
    program = small.half_program(toy, "iOS17", islands=["conv_in_conv2d"])
    compressed = compress(program, small.plan_of_all(STATIC), "iOS17", ranges)
    assert "conv_in.weight" not in {each.name for each in compressed}
    assert len(pairs(program.functions["main"])) == 6


def test_chunks_give_what_the_whole_gives(toy, small, tmp_path, ranges):
    plan = small.plan_of_all(STATIC)
    (whole,) = save(toy, [tmp_path / "Unet.mlpackage"], "iOS17", plan, ranges)
    paths = [tmp_path / f"UnetChunk{number}.mlpackage" for number in (1, 2)]
    feed, layers = dict(toy.feed), 0
    for each in save(toy, paths, "iOS17", plan, ranges):
        function = read_package(each.path).function
        feed |= Evaluator(function).run(feed)
        # No layer is parted from what quantizes its input.
        layers += sum(map(len, pairs(function).values()))
    expected = Evaluator(read_package(whole.path).function).run(toy.feed)["noise_pred"]
    assert (feed["noise_pred"] == expected).all()
    assert layers == len(small.WEIGHTS)


def test_nothing_quantized_crosses_a_cut(toy, small, ranges):
    program = small.half_program(toy, "iOS17", toy.islands)
    compress(program, small.plan_of_all(STATIC), "iOS17", ranges)
    for each in split_program(program).programs:
        function = each.functions["main"]
        kinds = {variable.op.op_type for variable in function.outputs}
        assert not kinds & {"quantize", "dequantize"}


def test_layers_without_ranges(toy, small, ranges):
    plan = small.plan_of_all(STATIC)
    program = small.half_program(toy, "iOS17")
    for known, missing in (None, "time, conv_in, down"), ({"time": ranges["time"]}, "conv_in, dow"):
        with pytest.raises(CalibrationError, match=f"nothing about the activations of {missing}"):
            compress(program, plan, "iOS17", known)
    # It is found before anything is changed.
    assert len(program_weights(program)) == len(small.WEIGHTS)
