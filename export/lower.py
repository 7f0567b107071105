"""Traced modules in the few operators that the exporter translates one by one.

`torch.onnx.export` first decomposes a program, for which it is traced a second time: nearly half of
the time of an export. The modules of diffusers and transformers need none of that, once what does
nothing during inference is gone and conversions between types have the one name that is translated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature
from torch.fx import Node

_aten = torch.ops.aten
_CONVERSIONS = (_aten.to.dtype, _aten.to.dtype_layout, _aten.to.device)
_NOTHING = (_aten.alias.default, _aten.contiguous.default, _aten.dropout.default)
_ASSERTION = _aten._assert_tensor_metadata.default

# What the exporter of torch 2.11 and newer has a function for, as it is.
_TRANSLATED = frozenset(
    {
        *(_aten.add.Tensor, _aten.arange.default, _aten.arange.start, _aten.argmax.default),
        *(_aten.cat.default, _aten.chunk.default, _aten.clamp.default, _aten.conv2d.default),
        *(_aten.cos.default, _aten.div.Tensor, _aten.embedding.default, _aten.eq.Scalar),
        *(_aten.exp.default, _aten.expand.default, _aten.flatten.using_ints, _aten.gelu.default),
        *(_aten.group_norm.default, _aten.index.Tensor, _aten.layer_norm.default, _aten.le.Tensor),
        *(_aten.linear.default, _aten.matmul.default, _aten.mean.dim, _aten.mul.Tensor),
        *(_aten.pad.default, _aten.permute.default, _aten.relu.default, _aten.reshape.default),
        *(_aten.sigmoid.default, _aten.silu.default, _aten.sin.default, _aten.slice.Tensor),
        *(_aten.softmax.int, _aten.sqrt.default, _aten.sub.Tensor, _aten.sym_size.int),
        *(_aten.tanh.default, _aten.transpose.int, _aten.unsqueeze.default),
        *(_aten.upsample_nearest2d.vec, _aten.view.default, _aten.where.ScalarOther),
        *(_aten.zeros.default, _aten._to_copy.default),
    }
)


def lower(program: ExportedProgram) -> None:
    """Rewrites a program in place, and spares it the decomposition where nothing is left for it.

    A program with an operator that is not known here is decomposed as always, which takes longer
    and gives the same graph.
    """
    graph = program.graph
    for node in list(graph.nodes):
        if node.op == "call_function":
            _rewrite(node, program.graph_signature)
    graph.eliminate_dead_code()
    graph.lint()
    program.graph_module.recompile()
    if all(_translated(node) for node in graph.nodes if node.op == "call_function"):
        program.run_decompositions = lambda *_: program


def _rewrite(node: Node, signature: ExportGraphSignature) -> None:
    source: Any = node.args[0] if node.args else None
    if node.target is _ASSERTION:
        node.graph.erase_node(node)
    elif node.target is _aten.concat.default:
        node.target = _aten.cat.default
    elif node.target in _NOTHING and not _trains(node):
        _replace(node, source, signature)
    elif node.target in _CONVERSIONS:
        wanted = node.meta["val"].dtype
        if source.meta["val"].dtype == wanted:
            _replace(node, source, signature)
        else:
            node.target, node.args = _aten._to_copy.default, (source,)
            node.kwargs = {"dtype": wanted}


def _replace(node: Node, source: Node, signature: ExportGraphSignature) -> None:
    signature.replace_all_uses(node.name, source.name)
    node.replace_all_uses_with(source)
    node.graph.erase_node(node)


def _trains(node: Node) -> bool:
    return node.target is _aten.dropout.default and bool(node.args[2])


def _translated(node: Node) -> bool:
    # Python's own operators compute sizes, or take one of several outputs; the last are what
    # `torch.onnx.ops.symbolic` leaves.
    python = getattr(node.target, "__module__", "") == "_operator"
    symbolic = getattr(node.target, "namespace", "") == "onnx_symbolic"
    return python or symbolic or node.target in _TRANSLATED
