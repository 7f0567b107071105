"""Folds constants and removes what folding leaves over, without looking at weights."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import Sequential, common
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules

# Elements; larger constants (masks, tables) stay computed, so that the file stays small.
_LARGEST_INPUT = 1024
_LARGEST_OUTPUT = 8192

# onnxscript's own choice without those for layers that no diffusion model has, and without
# `slice_split_rule`: it compares every two nodes of a graph, most of the time that all rules take.
_RULES = (
    *(*rules.mul_by_1_rule.commute(), *rules.add_0_rule.commute()),
    *(rules.sub_0_rule, rules.div_by_1_rule),
    *(rules.two_reshapes_matmul_reshape_rule, rules.one_reshape_matmul_reshape_rule),
    *(rules.cast_constant_of_shape_rule, rules.cast_constant_of_shape_without_value_rule),
    *(rules.collapse_slice_rule, rules.collapse_slice2_rule),
    *(rules.materialize_reshape_shape_rule, rules.cast_cast_rule, rules.no_op_cast_rule),
    *(rules.no_op_expand_rule, rules.flatten_to_reshape_rule, rules.reshape_reshape_rule),
    *(rules.no_op_transpose_rule, rules.transpose_transpose_rule),
    *(rules.unsqueeze_unsqueeze_rule, rules.squeeze_reshape_1d_rule),
    *(rules.normalize_pad_format_conv_rule, rules.fuse_pad_into_conv_rule),
    rules.remove_optional_bias_from_conv_rule,
)


def simplify(model: ir.Model) -> None:
    """Inlines functions, folds constants and shapes, merges equal nodes, in place.

    Initializers that have no value yet (the weights) are never folded.
    """
    common.InlinePass()(model)
    for _ in range(2):
        optimizer.fold_constants(
            model,
            onnx_shape_inference=True,
            input_size_limit=_LARGEST_INPUT,
            output_size_limit=_LARGEST_OUTPUT,
        )
        rewriter.rewrite(model, _RULES)
        Sequential(
            common.RemoveUnusedNodesPass(),
            common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
            common.RemoveUnusedOpsetsPass(),
        )(model)
    Sequential(
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
        common.ClearMetadataAndDocStringPass(),
    )(model)
