"""Floor 2: calibration data and compression recipes. Nothing lives here yet."""
