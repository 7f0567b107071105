"""Transposes weights once, in the file, instead of at every start of a session."""

from __future__ import annotations

import onnx_ir as ir


def fold_transposes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    """Removes `Transpose` nodes whose input is a weight, in place.

    A weight that is also used elsewhere is left alone.

    Returns:
        The permutation to apply to each weight when it is written, by initializer name.
    """
    permutations: dict[str, tuple[int, ...]] = {}
    for node in list(model.graph):
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is None or not weight.is_initializer() or len(weight.uses()) != 1:
            continue
        assert weight.shape is not None
        assert weight.name is not None
        rank = len(weight.shape)
        reverse = ir.AttrInt64s("perm", list(reversed(range(rank))))
        axes = tuple(node.attributes.get("perm", reverse).as_ints())
        weight.shape = ir.Shape([weight.shape[axis] for axis in axes])
        ir.convenience.replace_all_uses_with(node.outputs[0], weight)
        model.graph.remove(node, safe=True)
        permutations[weight.name] = axes
    return permutations
