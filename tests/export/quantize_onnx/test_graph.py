"""Quantized graphs of a small module against torch with the same rounded numbers."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kdexport.core.compare import compare
from kdexport.core.errors import CalibrationError, ExportError
from kdexport.core.rounding import integer_blocks, integer_channels, to_float8
from kdexport.export.quantize_onnx.int4 import packed
from kdexport.export.quantize_onnx.static import channels_for_bias
from kdexport.runtimes.ort_coverage import measure_coverage

INT8, INT4, FLOAT8 = (
    onnx.TensorProto.INT8,
    onnx.TensorProto.INT4,
    onnx.TensorProto.FLOAT8E4M3FN,
)


@pytest.mark.parametrize("static", [None, {"batch": 2, "height": 8, "width": 12}])
@pytest.mark.parametrize(
    ("form", "standard", "opset"),
    [("int8", False, 18), ("int8", True, 18), ("int4", False, 21), ("int4", True, 21)],
)
def test_weights_only(small, tmp_path, form, standard, opset, static):
    plan = small.plan_of(dict.fromkeys(small.layers, form), standard=standard)
    written, path, proto = small.export(small.module, plan, tmp_path, opset=opset, static=static)
    reference = small.with_rounded_weights(small.module, plan)
    for image in [small.images()] if static else [small.images(), small.images(1, 4, 6)]:
        for ours, theirs in zip(
            small.run_onnx(path, image), small.run(reference, image), strict=True
        ):
            assert compare(ours, theirs).relative_l2 < 1e-5
    assert {(each.name, each.format) for each in written.quantized} == {
        (name, form) for name in small.layers
    }
    assert written.parameters == sum(each.numel() for each in small.module.parameters())
    for each in written.quantized:
        limit = 1.2 if form == "int8" else 0.9
        assert each.parameters // 2 <= each.bytes < limit * each.parameters + 300
    operators = Counter(node.op_type for node in proto.graph.node)
    # Blocks of 8 channels are too small for the operator of ONNX Runtime, which has no kernels.
    assert operators["MatMulNBits"] == (0 if standard or form == "int8" else 1 + 2)
    assert {each.domain for each in proto.opset_import} <= {"", "com.microsoft"}
    if standard:
        assert {each.domain for each in proto.opset_import} == {""}


@pytest.mark.parametrize("form", ["int8", "int4", "fp8"])
def test_what_is_stored_is_what_rounding_gives(small, tmp_path, form):
    names = ("conv", "bare", "query", "head")
    # TensorRT has kernels of 4-bit integers as matrices only, see test_flat.py.
    signed = form != "int4"
    plan = small.plan_of(dict.fromkeys(names, form), small.ranges, signed=signed, standard=True)
    _, _, proto = small.export(small.module, plan, tmp_path)
    reference = small.with_rounded_weights(small.module, plan).state_dict()
    stored = {each.name: each for each in proto.graph.initializer}
    found = 0
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            name = node.input[0].removeprefix("inner.").removesuffix("/codes")
            array = _dequantized(node, stored)
            expected = reference[name].numpy()
            if array.ndim == 2 and name == "query.weight":
                array = array.T
            np.testing.assert_array_equal(array, expected)
            assert stored[node.input[0]].data_type == {"int8": INT8, "int4": INT4}.get(form, FLOAT8)
            found += 1
    assert found == len(names)


def _dequantized(node, stored):
    attributes = {each.name: each.i for each in node.attribute}
    codes = onnx.numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
    scales = onnx.numpy_helper.to_array(stored[node.input[1]])
    axis = attributes.get("axis", 1)
    if size := attributes.get("block_size"):
        return codes * np.repeat(scales, size, axis=axis)
    if scales.ndim:
        scales = np.expand_dims(scales, [at for at in range(codes.ndim) if at != axis])
    return codes * scales


def test_packed_blocks_are_what_rounding_gives(small, tmp_path):
    plan = small.plan_of({"query": "int4"})
    _, _, proto = small.export(small.module, plan, tmp_path)
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in proto.graph.initializer}
    codes, scales = stored["inner.query.weight/codes"], stored["inner.query.weight/scales"]
    unpacked = np.stack([codes & 15, codes >> 4], axis=-1).reshape(48, 64).astype(np.int8) - 8
    expected, expected_scales = integer_blocks(small.module.query.weight.numpy())
    np.testing.assert_array_equal(unpacked, expected)
    np.testing.assert_array_equal(scales.reshape(48, 2), expected_scales)


def _unsigned(tensor, bounds, _):
    scale, zero = bounds.unsigned
    codes = torch.clamp(torch.round(tensor / np.float32(scale)) + zero, 0, 255)
    return (codes - zero) * np.float32(scale)


def _signed(tensor, bounds, _):
    scale = np.float32(bounds.signed)
    return torch.clamp(torch.round(tensor / scale), -128, 127) * scale


def _dynamic(tensor, _, __):
    low, high = min(0.0, float(tensor.min())), max(0.0, float(tensor.max()))
    scale = np.float32((high - low) / 255)
    zero = round(float(np.clip(-low / scale, 0, 255)))
    codes = torch.clamp(torch.round(tensor / scale) + zero, 0, 255)
    return (codes - zero) * scale


def _float8(tensor, bounds, _):
    scale = np.float32(bounds.float8)
    return torch.from_numpy(to_float8(tensor.numpy() / scale) * scale)


LINEAR = ("query", "key", "head")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("form", "layers", "signed", "quantize", "operators"),
    [
        ("int8-dynamic", LINEAR, False, _dynamic, {"DynamicQuantizeLinear": 2, "MatMulInteger": 3}),
        ("int8-static", None, False, _unsigned, {"QuantizeLinear": 6}),
        ("int8-static", None, True, _signed, {"QuantizeLinear": 4}),
        ("fp8", None, True, _float8, {"QuantizeLinear": 4}),
    ],
)
def test_activations(small, tmp_path, form, layers, signed, quantize, operators, dtype):
    layers = layers or small.layers
    plan = small.plan_of(dict.fromkeys(layers, form), small.ranges, signed=signed)
    _, path, proto = small.export(small.module, plan, tmp_path, dtype=dtype)
    reference = small.with_rounded_activations(small.module, plan, quantize)
    image = small.images()
    # A number between two steps may be rounded to either, in half precision more often.
    least = 55 if dtype == torch.float32 else 38
    for ours, theirs, plain in zip(
        small.run_onnx(path, image),
        small.run(reference, image),
        small.run(small.module, image),
        strict=True,
    ):
        assert compare(ours, theirs).psnr_db > least
        assert compare(ours, plain).psnr_db > 25
    counts = Counter(node.op_type for node in proto.graph.node)
    # The two products of one input share what it is quantized to.
    assert {name: counts[name] for name in operators} == operators
    coverage = measure_coverage(path)
    if not signed:
        assert coverage.missed == ()
        assert set(coverage.asked) == set(layers) == set(coverage.integer)
    else:
        assert set(coverage.asked) == set(layers)


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_only_in_half_precision(small, tmp_path, form, dtype):
    plan = small.plan_of(dict.fromkeys(small.layers, form))
    edge = torch.float16 if dtype == torch.float16 else torch.float32
    _, path, proto = small.export(small.module, plan, tmp_path, dtype=dtype, edge=edge, opset=22)
    reference = small.with_rounded_weights(small.module, plan)
    image = small.images()
    results = small.run_onnx(path, image.astype(np.float16) if edge == dtype else image)
    for ours, theirs in zip(results, small.run(reference, image), strict=True):
        assert compare(ours.astype(np.float32), theirs).psnr_db > (55 if edge == dtype else 38)
    kinds = {
        each.data_type for each in proto.graph.initializer if each.name.endswith("weight/scales")
    }
    half = onnx.TensorProto.FLOAT16 if edge == dtype else onnx.TensorProto.BFLOAT16
    assert kinds == {half}


def test_embeddings_stay(small, tmp_path):
    plan = small.plan_of({"table": "int8", "query": "int8"})
    written, _, proto = small.export(small.module, plan, tmp_path)
    names = [each.name for each in proto.graph.initializer]
    assert [name for name in names if "table" in name] == ["inner.table.weight"]
    formats = {each.name: each.format for each in written.quantized}
    assert formats == {**dict.fromkeys(small.layers, "float"), "query": "int8"}
    assert "table" not in formats


@pytest.mark.parametrize(
    ("formats", "error", "message"),
    [
        ({"conv": "int8-dynamic"}, ExportError, "'conv' cannot be int8-dynamic, which is for lin"),
        ({"conv": "int8-static"}, CalibrationError, "says nothing about the activations of conv"),
    ],
)
def test_what_cannot_be(small, tmp_path, formats, error, message):
    with pytest.raises(error, match=message):
        small.export(small.module, small.plan_of(formats), tmp_path)
    assert not (tmp_path / "model.onnx").exists()


@given(
    hnp.arrays(np.int8, (3, 16), elements=st.integers(-7, 7)),
)
def test_packing_keeps_every_integer(codes):
    bytes_ = packed(codes)
    assert bytes_.shape == (3, 8)
    unpacked = np.stack([bytes_ & 15, bytes_ >> 4], axis=-1).reshape(3, 16).astype(np.int8) - 8
    np.testing.assert_array_equal(unpacked, codes)


@given(
    hnp.arrays(np.float32, (4, 6), elements=st.floats(-2, 2, width=32)),
    hnp.arrays(np.float32, 4, elements=st.floats(-100, 100, width=32)),
    st.floats(1e-4, 1.0),
    st.sampled_from([0.0, 1e-12, 1.0]),
)
def test_biases_always_fit(weight, bias, scale, factor):
    weight[0] *= np.float32(factor)
    codes, scales = channels_for_bias(weight, bias, scale)
    expected, own = integer_channels(weight)
    steps = bias.astype(np.float64) / (scales * np.float32(scale)).astype(np.float32)
    assert np.abs(np.rint(steps)).max() < 2**31 - 1
    same = scales == own
    np.testing.assert_array_equal(codes[same], expected[same])
    # Where a weight is rounded more coarsely, it is nothing beside its bias.
    error = np.abs(codes * scales[:, None] - weight).max(axis=1)
    limit = np.maximum(own, np.abs(bias) / (scale * 2.0**30))
    assert (error <= limit * 0.51 + 1e-30).all()
