"""Floor 1: TensorRT engines on an NVIDIA GPU, from the prompt to the pixels, without torch."""
