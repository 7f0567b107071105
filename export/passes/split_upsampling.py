"""Convolves before enlarging: nearest upsampling by two and a 3x3 convolution, in 4/9 of the work.

Each pixel that is upsampled occurs twice in a row and in a column, so three neighbouring taps meet
two pixels of the small image: for even rows the first tap meets one and the other two share the
next, for odd rows it is the other way round. So the four phases of the large image are four 2x2
convolutions of the small one, with weights that are sums of the 3x3 ones (sub-pixel convolution,
Shi et al., arXiv:1609.07009). Nothing but the order of sums changes.

The file keeps the 3x3 weights; engines compute the sums once, when they fold constants. On two
cores that convolution is 1.6 times as fast in ONNX Runtime and 1.9 times in OpenVINO; of the work
of BK-SDM-Small's U-Net it saves 9 %, of its decoder's 16 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from .emitter import Emitter

# By parity of the row (or column) of the large image: what the three taps add up to.
_SUMS = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], dtype=np.float32)
_CONVOLUTION: Mapping[str, Sequence[int]] = {
    "kernel_shape": (3, 3),
    "strides": (1, 1),
    "dilations": (1, 1),
    "pads": (1, 1, 1, 1),
}
_NEAREST = {
    "mode": "nearest",
    "nearest_mode": "floor",
    "coordinate_transformation_mode": "asymmetric",
}


def split_upsampling(model: ir.Model) -> None:
    """Replaces every upsampling that only a 3x3 convolution in float32 uses, in place.

    Weights of other types are left alone: their sums would be rounded once more, and quantized
    ones are none that engines could fold.
    """
    for node in list(model.graph):
        if node.op_type == "Resize" and _doubles(node):
            users = [use.node for use in node.outputs[0].uses()]
            if len(users) == 1 and _is_plain(users[0], node.outputs[0]):
                _split(model.graph, node, users[0])
    # The scales.
    common.RemoveUnusedNodesPass()(model)


def _split(graph: ir.Graph, resize: ir.Node, convolution: ir.Node) -> None:
    (small, *_), (_, weight, *bias) = resize.inputs, convolution.inputs
    assert small is not None
    assert weight is not None
    assert weight.shape is not None
    emit = Emitter(ir.DataType.FLOAT)
    rows = emit("Reshape", weight, emit.ints(-1, 9))
    outputs, inputs, *_ = weight.shape.numpy()
    kernel = emit.ints(outputs, inputs, 2, 2)
    phases = [
        emit(
            "Conv",
            *(small, emit("Reshape", emit("MatMul", rows, emit.array(sums)), kernel), *bias),
            kernel_shape=[2, 2],
            # Even rows need the pixel above, odd ones the pixel below.
            pads=[1 - odd_row, 1 - odd_column, odd_row, odd_column],
        )
        for odd_row, odd_column, sums in _phases()
    ]
    result = emit("DepthToSpace", emit("Concat", *phases, axis=1), blocksize=2, mode="DCR")
    (convolved,) = convolution.outputs
    result.shape, result.type = convolved.shape, convolved.type
    ir.convenience.replace_nodes_and_values(
        graph, convolution, [convolution, resize], emit.nodes, [convolved], [result]
    )


def _phases() -> list[tuple[int, int, NDArray[np.float32]]]:
    """Parities of row and column, and the matrix from nine taps to the four of that phase."""
    return [
        (row, column, np.einsum("rp,sq->pqrs", _SUMS[row], _SUMS[column]).reshape(9, 4))
        for row in (0, 1)
        for column in (0, 1)
    ]


def _doubles(resize: ir.Node) -> bool:
    scales = resize.inputs[2] if len(resize.inputs) > 2 else None
    constant = ir.convenience.get_const_tensor(scales) if scales is not None else None
    if constant is None or constant.numpy().tolist() != [1, 1, 2, 2]:
        return False
    return all(
        name in resize.attributes and resize.attributes[name].as_string() == wanted
        for name, wanted in _NEAREST.items()
    )


def _is_plain(node: ir.Node, image: ir.Value) -> bool:
    """Whether a node is a 3x3 convolution of the image, of the size of the image, in float32."""
    if node.op_type != "Conv" or node.inputs[0] is not image:
        return False
    weight = node.inputs[1]
    if weight is None or not weight.is_initializer() or weight.dtype != ir.DataType.FLOAT:
        return False
    if weight.shape is None or tuple(weight.shape[2:]) != (3, 3):
        return False
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    return group == 1 and all(
        name not in node.attributes or tuple(node.attributes[name].as_ints()) == tuple(wanted)
        for name, wanted in _CONVOLUTION.items()
    )
