"""Floor 1: one runner per engine, the denoising loop, the reference and the comparison."""
