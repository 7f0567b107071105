"""Graph passes, one per file: each changes an `onnx_ir.Model` in place."""
