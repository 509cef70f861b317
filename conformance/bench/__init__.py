"""What the reference costs, beside what costs something else: ratios, never a verdict."""
