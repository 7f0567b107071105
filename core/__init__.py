"""Floor 0: errors, options, the manifest and the parity arithmetic. Needs numpy only."""
