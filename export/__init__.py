"""Floor 2: checkpoint to tensor-only modules to a deployable format. Needs torch and diffusers."""
