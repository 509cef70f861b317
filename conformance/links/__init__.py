"""The ways to reach a backend, one a file: each a source that can be opened, and its link."""
