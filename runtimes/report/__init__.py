"""The report of a verification: one HTML file that needs nothing else."""
