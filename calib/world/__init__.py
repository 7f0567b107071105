"""A small procedural world: captions and pictures made together, and a reader that scores pictures.

The demo model is trained on it, and its score on held-out captions is what the project has in the
place of FID and CLIP score.
"""
