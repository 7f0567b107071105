"""Core ML packages: Apple's names and shapes around diffusers' modules, converted and written."""
