"""Core ML packages evaluated without Core ML: MIL programs on torch's CPU kernels."""
