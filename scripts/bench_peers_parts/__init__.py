"""The parts of `scripts/bench_peers.py`; the files `peer_*.py` run in environments of their own."""
