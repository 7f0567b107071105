"""Floor 2: what models are measured on; calibration data and compression recipes will join it."""
