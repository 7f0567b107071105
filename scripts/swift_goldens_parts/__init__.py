"""The pieces of `scripts/swift_goldens.py`."""
