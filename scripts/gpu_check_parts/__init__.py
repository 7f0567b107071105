"""The pieces of `scripts/gpu_check.py`."""
