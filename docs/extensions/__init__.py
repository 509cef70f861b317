"""What the site needs beyond its generator: docstrings read as they are written, and clauses that are linked wherever they are named."""
