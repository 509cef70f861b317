"""What a run leaves behind, one file a format: `terminal` for people, `jsonlines` for programs."""
