"""Exhaustive campaigns: a backend asked every input of a small set, so that its largest error is known and not sampled."""
