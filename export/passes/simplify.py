"""Folds constants and removes what folding leaves over, without looking at weights."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import Sequential, common
from onnxscript import optimizer, rewriter

# Elements; larger constants (masks, tables) stay computed, so that the file stays small.
_LARGEST_INPUT = 1024
_LARGEST_OUTPUT = 8192


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
        rewriter.rewrite(model)
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
