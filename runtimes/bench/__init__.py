"""Speed and memory of a bundle beside other ways to draw the same picture."""
