"""The bounds against right kernels: wide sweeps and a search for the worst error relative to its bound."""
