"""Search: calls that no vector makes, drawn and judged; what a finding is about, and the file that keeps it."""
