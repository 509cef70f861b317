"""What a run leaves behind, one file or folder a format: `terminal` and `html` for people, `jsonlines` and `junit` for programs, ..."""
