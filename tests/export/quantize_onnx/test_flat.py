"""Kernels of 4-bit integers as matrices, which is how TensorRT takes them."""

from collections import Counter

import numpy as np
import onnx
import pytest
from kdexport.core.compare import compare
from kdexport.core.formats import block_size
from kdexport.core.rounding import integer_blocks


@pytest.mark.parametrize("static", [None, {"batch": 2, "height": 8, "width": 12}])
def test_kernels_are_matrices(small, tmp_path, static):
    plan = small.plan_of(dict.fromkeys(small.layers, "int4"), signed=True, standard=True)
    _, path, proto = small.export(small.module, plan, tmp_path, static=static)
    reference = small.with_rounded_weights(small.module, plan)
    for ours, theirs in zip(
        small.run_onnx(path, small.images()), small.run(reference, small.images()), strict=True
    ):
        assert compare(ours, theirs).relative_l2 < 1e-5
    stored = {each.name: each for each in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear":
            # Blocks lie along one of the last two axes.
            assert len(stored[node.input[0]].dims) == 2
    operators = Counter(node.op_type for node in proto.graph.node)
    assert (operators["DequantizeLinear"], operators["Conv"]) == (len(small.layers), 2)


@pytest.mark.parametrize("name", ["conv", "bare"])
def test_what_is_stored(small, tmp_path, name):
    """Rows are output channels, and the input channels of a pixel lie side by side."""
    plan = small.plan_of({name: "int4"}, signed=True, standard=True)
    _, _, proto = small.export(small.module, plan, tmp_path)
    stored = {each.name: each for each in proto.graph.initializer}
    weight = getattr(small.module, name).weight.detach().numpy()
    codes, scales = integer_blocks(weight)
    for kind, expected in (("codes", codes), ("scales", scales)):
        array = onnx.numpy_helper.to_array(stored[f"inner.{name}.weight/{kind}"])
        rows = expected.transpose(0, 2, 3, 1).reshape(len(weight), -1)
        np.testing.assert_array_equal(array.astype(np.float32), rows)
    (node,) = (each for each in proto.graph.node if each.op_type == "DequantizeLinear")
    said = {each.name: each.i for each in node.attribute}
    assert said == {"axis": 1, "block_size": block_size(weight.shape)}
