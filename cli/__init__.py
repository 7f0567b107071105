"""Floor 3: one module per command; the only room that knows all the others."""
