"""kdexport: one component, or the whole pipeline without its verification."""

from __future__ import annotations

import torch
from child import arguments, report
from kdexport.core.options import OnnxOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.onnx_bundle import export_onnx
from kdexport.export.parts import pipeline_parts
from kdexport.export.prepare import prepare_export
from kdexport.export.skeleton import build_skeleton, fake_mode, parameter_shapes
from kdexport.export.to_onnx import write_onnx
from kdexport.export.weights import open_weights
from kdexport.export.wrap import vae_factor

options = arguments()


def whole_pipeline() -> None:
    """What `kdexport onnx --no-verify` does."""
    prepared = prepare_export(
        load_checkpoint(str(options.model)), OnnxOptions(precision=options.precision)
    )
    options.output.mkdir()
    export_onnx(prepared, options.output, lambda what, share: None)


def component() -> None:
    """One file."""
    checkpoint = load_checkpoint(str(options.model))
    chosen = OnnxOptions(precision=options.precision)
    vae = build_skeleton(checkpoint.component("vae"), torch.float32)
    parts = {each.role: each for each in pipeline_parts(checkpoint, chosen, vae_factor(vae.config))}
    part = parts[options.component]
    source = checkpoint.component(part.component)
    skeleton = build_skeleton(source, part.dtype)
    weights = open_weights(source, parameter_shapes(skeleton))
    wrapped, opset = part.wrap(skeleton), chosen.resolved_opset
    write_onnx(wrapped, fake_mode(), weights, options.output, opset=opset, static={})


report(whole_pipeline if options.component == "pipeline" else component)
