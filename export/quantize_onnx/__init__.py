"""Weights and activations of few bits in ONNX graphs, one format per file."""
